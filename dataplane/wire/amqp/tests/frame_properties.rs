//! Properties over every frame that can be built: what is written reads back the same, and the front
//! of it asks for more.

use fulcrum_amqp::{
    Address, Attach, Begin, Close, Coordinator, Decoded, DeliveryState, DeliveryTag,
    DescribedBuffer, Detach, Disposition, DistributionMode, End, Error, ExpiryPolicy, Fields,
    FilterSet, Flow, Frame, FrameContext, MapBuffer, Modified, NodeProperties, Open, Outcome,
    Performative, Received, ReceiverSettleMode, Rejected, Role, Sasl, SaslCode, SaslInit,
    SaslMechanisms, SaslOutcome, SecretBytes, SenderSettleMode, Source, Symbol, Symbols, Target,
    TargetNode, TerminusDurability, TransactionalState, Transfer, Value, decode_frame,
    encode_frame,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const FRAME_BYTES_MAX: usize = 1 << 20;

fn symbol(text: &str) -> Symbol<'_> {
    Symbol::new(text).expect("ASCII")
}

fn ascii() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[ -~]{0,12}", 1 => "[a-z]{250,260}"]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![9 => ".{0,12}", 1 => "[a-zü]{250,260}"]
}

/// What several fields take from: texts that are symbols, numbers, flags.
#[derive(Debug, Clone)]
struct Pool {
    texts: Vec<String>,
    names: Vec<String>,
    numbers: Vec<Option<u32>>,
    flags: Vec<bool>,
    place: Index,
    is_described: bool,
}

fn pool() -> impl Strategy<Value = Pool> {
    let numbers = vec(option::of(prop_oneof![Just(0), 0..300_u32, any::<u32>()]), 8);
    (vec(text(), 4), vec(ascii(), 4), numbers, vec(any::<bool>(), 8), any::<Index>(), any::<bool>())
        .prop_map(|(texts, names, numbers, flags, place, is_described)| Pool {
            texts,
            names,
            numbers,
            flags,
            place,
            is_described,
        })
}

impl Pool {
    fn number(&self, index: usize) -> u32 {
        self.numbers[index].unwrap_or_default()
    }

    fn text(&self, index: usize) -> Option<&str> {
        self.flags[index].then_some(self.texts[index].as_str())
    }

    fn symbols(&self) -> Vec<Symbol<'_>> {
        self.names[..self.place.index(5)].iter().map(|name| symbol(name)).collect()
    }

    /// A map with symbols for keys and described values, which is a filter set as well.
    fn map(&self) -> MapBuffer {
        let mut map = MapBuffer::new();
        for name in &self.names[..self.place.index(4)] {
            let value = Value::String(&self.texts[0]);
            let filter = DescribedBuffer::new(&Value::Symbol(symbol(name)), &value);
            let filter = filter.expect("a short value");
            map.push(&Value::Symbol(symbol(name)), &Value::Described(filter.as_described()))
                .expect("a short map");
        }
        map
    }

    fn outcome<'a>(&'a self, fields: Fields<'a>) -> Outcome<'a> {
        let error = Error {
            condition: symbol(&self.names[0]),
            description: self.text(1),
            info: self.flags[2].then_some(fields),
        };
        match self.place.index(4) {
            0 => Outcome::Accepted,
            1 => Outcome::Released,
            2 => Outcome::Rejected(Rejected { error: self.flags[3].then_some(error) }),
            _ => Outcome::Modified(Modified {
                delivery_failed: self.flags[0],
                undeliverable_here: self.flags[1],
                message_annotations: self.flags[2].then_some(fields),
            }),
        }
    }

    fn state<'a>(&'a self, fields: Fields<'a>) -> DeliveryState<'a> {
        let outcome = self.outcome(fields);
        match self.place.index(3) {
            0 => DeliveryState::Outcome(outcome),
            1 => DeliveryState::Received(Received {
                section_number: self.number(0),
                section_offset: u64::from(self.number(1)) << 8,
            }),
            _ => DeliveryState::Transactional(TransactionalState {
                txn_id: self.texts[0].as_bytes(),
                outcome: self.flags[0].then_some(outcome),
            }),
        }
    }

    fn error<'a>(&'a self, fields: Fields<'a>) -> Option<Error<'a>> {
        self.flags[3].then_some(Error {
            condition: symbol(&self.names[1]),
            description: self.text(2),
            info: Some(fields),
        })
    }

    fn source<'a>(
        &'a self,
        fields: Fields<'a>,
        symbols: &'a [Symbol<'a>],
        durable: TerminusDurability,
        expiry_policy: ExpiryPolicy,
    ) -> Source<'a> {
        Source {
            address: self.text(0).map(Address),
            durable,
            expiry_policy,
            timeout: self.number(0),
            dynamic: self.flags[1],
            dynamic_node_properties: self.flags[2].then_some(NodeProperties(fields)),
            distribution_mode: self.flags[3]
                .then_some(DistributionMode::from_symbol(symbol(&self.names[3]))),
            filter: FilterSet::new(fields.as_map()),
            default_outcome: self.flags[4].then_some(self.outcome(fields)),
            outcomes: Symbols::of(symbols),
            capabilities: Symbols::one(symbol(&self.names[2])),
        }
    }

    fn target<'a>(
        &'a self,
        fields: Fields<'a>,
        symbols: &'a [Symbol<'a>],
        durable: TerminusDurability,
        expiry_policy: ExpiryPolicy,
    ) -> Target<'a> {
        if self.is_described {
            return Target::Coordinator(Coordinator { capabilities: Symbols::of(symbols) });
        }
        Target::Node(TargetNode {
            address: self.text(1).map(Address),
            durable,
            expiry_policy,
            timeout: self.number(1),
            dynamic: self.flags[0],
            dynamic_node_properties: self.flags[5].then_some(NodeProperties(fields)),
            capabilities: Symbols::of(symbols),
        })
    }
}

fn amqp(channel: u16, performative: Performative<'_>) -> Frame<'_> {
    Frame::Amqp { channel, performative, payload: &[] }
}

fn check_frame(frame: &Frame<'_>) {
    let mut out = Vec::new();
    encode_frame(frame, FRAME_BYTES_MAX, &mut out).expect("a frame that can be written");
    let context = match frame {
        Frame::Sasl(_) => FrameContext { frame_bytes_max: FRAME_BYTES_MAX, ..FrameContext::SASL },
        _ => FrameContext::amqp(FRAME_BYTES_MAX),
    };
    assert_eq!(
        decode_frame(&out, &context),
        Ok(Decoded::Frame { frame: frame.clone(), used: out.len() })
    );
    for length in [0, 1, 7, 8, out.len() - 1] {
        let front = decode_frame(&out[..length.min(out.len() - 1)], &context);
        assert!(matches!(front, Ok(Decoded::NeedMore { at_least }) if at_least <= out.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn open_begin_and_the_ends_read_back(
        pool in pool(), channel in any::<u16>(), max_frame_size in 512..=u32::MAX,
    ) {
        let (map, symbols) = (pool.map(), pool.symbols());
        let fields = Fields::new(map.as_map()).expect("keys that are symbols");
        let properties = pool.flags[7].then_some(fields);
        let open = Open {
            container_id: &pool.texts[3],
            hostname: pool.text(0),
            max_frame_size,
            channel_max: channel,
            idle_time_out: pool.numbers[0],
            outgoing_locales: Symbols::NONE,
            incoming_locales: Symbols::one(symbol(&pool.names[0])),
            offered_capabilities: Symbols::of(&symbols),
            desired_capabilities: Symbols::of(&symbols),
            properties,
        };
        check_frame(&amqp(0, Performative::Open(Box::new(open))));
        let begin = Begin {
            remote_channel: pool.flags[0].then_some(channel),
            next_outgoing_id: pool.number(1),
            incoming_window: pool.number(2),
            outgoing_window: pool.number(3),
            handle_max: pool.number(4),
            offered_capabilities: Symbols::of(&symbols),
            desired_capabilities: Symbols::NONE,
            properties,
        };
        check_frame(&amqp(channel, Performative::Begin(begin)));
        let error = pool.error(fields);
        let detach = Detach { handle: pool.number(5), closed: pool.flags[5], error };
        check_frame(&amqp(channel, Performative::Detach(detach)));
        check_frame(&amqp(channel, Performative::End(End { error })));
        check_frame(&amqp(channel, Performative::Close(Close { error })));
        check_frame(&Frame::Empty { channel });
    }

    #[test]
    fn an_attach_reads_back(
        pool in pool(),
        role in select(vec![Role::Sender, Role::Receiver]),
        snd_settle_mode in select(SenderSettleMode::ALL),
        rcv_settle_mode in select(ReceiverSettleMode::ALL),
        durable in select(TerminusDurability::ALL),
        expiry_policy in select(ExpiryPolicy::ALL),
    ) {
        let (map, symbols) = (pool.map(), pool.symbols());
        let fields = Fields::new(map.as_map()).expect("keys that are symbols");
        let source = pool.source(fields, &symbols, durable, expiry_policy);
        let target = pool.target(fields, &symbols, durable, expiry_policy);
        let attach = Attach {
            name: &pool.texts[2],
            handle: pool.number(2),
            role,
            snd_settle_mode,
            rcv_settle_mode,
            source: pool.flags[6].then_some(source),
            target: pool.flags[7].then_some(target),
            unsettled: pool.flags[0].then_some(fields.as_map()),
            incomplete_unsettled: pool.flags[1],
            initial_delivery_count: pool.numbers[3].or((role == Role::Sender).then_some(0)),
            max_message_size: pool.numbers[4].map(u64::from),
            offered_capabilities: Symbols::of(&symbols),
            desired_capabilities: Symbols::NONE,
            properties: pool.flags[2].then_some(fields),
        };
        check_frame(&amqp(1, Performative::Attach(Box::new(attach))));
    }

    #[test]
    fn a_flow_reads_back(pool in pool(), handle in any::<u32>()) {
        let map = pool.map();
        let is_about_link = pool.flags[0];
        let of_link = |number: Option<u32>| number.filter(|_| is_about_link);
        let flow = Flow {
            next_incoming_id: pool.numbers[0],
            incoming_window: pool.number(1),
            next_outgoing_id: pool.number(2),
            outgoing_window: pool.number(3),
            handle: is_about_link.then_some(handle),
            delivery_count: of_link(pool.numbers[4]),
            link_credit: of_link(pool.numbers[5]),
            available: of_link(pool.numbers[6]),
            drain: pool.flags[1],
            echo: pool.flags[2],
            properties: Fields::new(map.as_map()).filter(|_| pool.flags[3]),
        };
        check_frame(&amqp(1, Performative::Flow(flow)));
    }

    #[test]
    fn transfers_and_dispositions_read_back(
        pool in pool(),
        channel in any::<u16>(),
        tag in option::of(vec(any::<u8>(), 0..=32)),
        rcv_settle_mode in option::of(select(ReceiverSettleMode::ALL)),
        payload in vec(any::<u8>(), 0..600),
    ) {
        let map = pool.map();
        let fields = Fields::new(map.as_map()).expect("keys that are symbols");
        let state = pool.flags[7].then_some(pool.state(fields));
        let transfer = Transfer {
            handle: pool.number(0),
            delivery_id: pool.numbers[1],
            delivery_tag: tag.as_deref().and_then(DeliveryTag::new),
            message_format: pool.numbers[2],
            settled: pool.flags[0].then_some(pool.flags[1]),
            more: pool.flags[2],
            rcv_settle_mode,
            state,
            resume: pool.flags[3],
            aborted: pool.flags[4],
            batchable: pool.flags[5],
        };
        let performative = Performative::Transfer(transfer);
        check_frame(&Frame::Amqp { channel, performative, payload: &payload });
        let disposition = Disposition {
            role: if pool.flags[0] { Role::Sender } else { Role::Receiver },
            first: pool.number(3),
            last: pool.numbers[4],
            settled: pool.flags[1],
            state,
            batchable: pool.flags[2],
        };
        check_frame(&amqp(channel, Performative::Disposition(disposition)));
    }

    #[test]
    fn sasl_frames_read_back(
        pool in pool(), code in select(SaslCode::ALL), secret in vec(any::<u8>(), 0..300),
    ) {
        let symbols = pool.symbols();
        let secret = pool.flags[0].then_some(SecretBytes(&secret));
        if !symbols.is_empty() {
            let mechanisms = SaslMechanisms { sasl_server_mechanisms: Symbols::of(&symbols) };
            check_frame(&Frame::Sasl(Sasl::Mechanisms(mechanisms)));
        }
        let init = SaslInit {
            mechanism: symbol(&pool.names[0]),
            initial_response: secret,
            hostname: pool.text(1),
        };
        check_frame(&Frame::Sasl(Sasl::Init(init)));
        let outcome = SaslOutcome { code, additional_data: secret };
        check_frame(&Frame::Sasl(Sasl::Outcome(outcome)));
    }
}
