//! What views give, and what builders refuse.

#![allow(clippy::panic, reason = "a panic is how a test fails")]

use fulcrum_amqp::{
    ArrayBuffer, Body, DescribedBuffer, DistributionMode, EncodeError, Fields, FilterSet, Header,
    LifetimePolicy, ListBuffer, Map, MapBuffer, Message, MessageParts, NodeProperties, Outcome,
    Properties, Symbol, Symbols, Uuid, Value, clause, condition, decode_value,
    encode_delivery_annotations, encode_header, encode_message_annotations, encode_value,
};

fn symbol(text: &'static str) -> Value<'static> {
    Value::Symbol(Symbol::literal(text))
}

fn map_of(pairs: &[(Value<'_>, Value<'_>)]) -> MapBuffer {
    let mut map = MapBuffer::new();
    for (key, value) in pairs {
        map.push(key, value).expect("a short map");
    }
    map
}

#[test]
fn how_a_value_came_makes_no_difference_to_what_it_equals() {
    let pairs: [(&[u8], &[u8]); 5] = [
        (&[0x43], &[0x70, 0, 0, 0, 0]),
        (&[0x41], &[0x56, 1]),
        (&[0x45], &[0xD0, 0, 0, 0, 4, 0, 0, 0, 0]),
        (&[0xE0, 4, 2, 0x54, 1, 2], &[0xF0, 0, 0, 0, 13, 0, 0, 0, 2, 0x71, 0, 0, 0, 1, 0, 0, 0, 2]),
        (&[0, 0x53, 5, 0x40], &[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 5, 0x40]),
    ];
    for (short, long) in pairs {
        let (short, long) = (decode_value(short), decode_value(long));
        assert_eq!(short.map(|(value, _)| value), long.map(|(value, _)| value));
    }
    assert_ne!(Value::Uint(1), Value::Ulong(1));
    assert_ne!(Value::String("a"), symbol("a"));
    assert_eq!(Value::Float(f32::NAN), Value::Float(f32::NAN));
    assert_ne!(Value::Double(0.0), Value::Double(-0.0));
}

#[test]
fn a_map_finds_the_first_value_of_a_key() {
    let map = map_of(&[
        (symbol("a"), Value::Int(1)),
        (Value::String("a"), Value::Int(2)),
        (symbol("a"), Value::Int(3)),
    ]);
    let map = map.as_map();
    assert_eq!(map.len(), 3);
    assert_eq!(map.find(Symbol::literal("a")), Some(Value::Int(1)));
    assert_eq!(map.find_text("a"), Some(Value::Int(2)));
    assert_eq!(map.find(Symbol::literal("b")), None);
    assert!(Fields::new(map).is_none(), "a key is a string");
}

#[test]
fn numbers_of_every_width_are_numbers() {
    let one = [
        Value::Ubyte(1),
        Value::Ushort(1),
        Value::Uint(1),
        Value::Ulong(1),
        Value::Byte(1),
        Value::Short(1),
        Value::Int(1),
        Value::Long(1),
    ];
    assert!(one.iter().all(|value| value.as_i64() == Some(1)));
    assert_eq!(Value::Ulong(u64::MAX).as_i64(), None);
    assert_eq!(Value::Timestamp(1).as_i64(), None);
}

#[test]
fn an_array_has_elements_of_one_type_in_the_shortest_form_of_all() {
    let codes = |values: &[Value<'_>]| {
        let array = ArrayBuffer::new(values).expect("elements of one type");
        let mut out = Vec::new();
        encode_value(&Value::Array(array.as_array()), &mut out).expect("a short array");
        out[3]
    };
    assert_eq!(codes(&[Value::Uint(0), Value::Uint(255)]), 0x52);
    assert_eq!(codes(&[Value::Uint(0), Value::Uint(256)]), 0x70);
    assert_eq!(codes(&[Value::Long(-128), Value::Long(127)]), 0x55);
    assert_eq!(codes(&[Value::Long(-129), Value::Long(127)]), 0x81);
    assert_eq!(codes(&[Value::Boolean(true), Value::Boolean(false)]), 0x56);
    let long = "x".repeat(256);
    let array = ArrayBuffer::new(&[Value::String("a"), Value::String(&long)]).expect("strings");
    assert!(array.as_array().iter().eq([Value::String("a"), Value::String(&long)]));

    let described = |code: u64| {
        DescribedBuffer::new(&Value::Ulong(code), &Value::Int(1)).expect("a short value")
    };
    let (one, two) = (described(1), described(2));
    let (one, two) = (Value::Described(one.as_described()), Value::Described(two.as_described()));
    assert!(ArrayBuffer::new(&[one, one]).is_ok());
    for mixed in [
        &[][..],
        &[Value::Int(1), Value::Long(1)],
        &[Value::String("a"), symbol("a")],
        &[Value::Null, Value::Int(1)],
        &[one, two],
        &[one, Value::Int(1)],
        &[Value::Int(1), one],
    ] {
        let error = ArrayBuffer::new(mixed).expect_err("no common type");
        assert_eq!(error, EncodeError::Invalid { clause: clause::ARRAY_MIXED });
        assert_eq!(error.condition(), condition::INTERNAL_ERROR);
    }
}

#[test]
fn a_descriptor_is_a_symbol_or_a_ulong() {
    for descriptor in [Value::Null, Value::Uint(1), Value::String("x")] {
        let error = DescribedBuffer::new(&descriptor, &Value::Null).expect_err("reserved");
        assert_eq!(error, EncodeError::Invalid { clause: clause::DESCRIPTOR_RESERVED });
    }
    let inner = DescribedBuffer::new(&symbol("x"), &Value::Int(1)).expect("a short value");
    let inner = Value::Described(inner.as_described());
    let outer = DescribedBuffer::new(&Value::Ulong(0x24), &inner).expect("a short value");
    let outer = outer.as_described();
    assert_eq!((outer.code(), outer.value()), (Some(0x24), inner));
    let named = DescribedBuffer::new(&symbol("amqp:accepted:list"), &Value::Null);
    assert_eq!(named.expect("a short value").as_described().code(), Some(0x24));
}

#[test]
fn one_symbol_is_an_array_of_one() {
    let symbols = [Symbol::literal("a"), Symbol::literal("b")];
    assert_eq!(Symbols::one(symbols[0]), Symbols::of(&symbols[..1]));
    assert_eq!(Symbols::of(&[]), Symbols::NONE);
    assert_ne!(Symbols::of(&symbols), Symbols::one(symbols[0]));
    assert!(Symbols::of(&symbols).contains(symbols[1]));
    assert!(Symbol::new("\u{fc}").is_none());
}

#[test]
fn a_dynamic_node_says_when_it_goes_and_how_it_distributes() {
    for policy in LifetimePolicy::ALL {
        let list = Value::List(fulcrum_amqp::List::EMPTY);
        let described = DescribedBuffer::new(&Value::Ulong(policy.descriptor()), &list);
        let described = described.expect("a short value");
        let modes = ArrayBuffer::new(&[symbol("copy"), symbol("acme:mode")]).expect("symbols");
        let map = map_of(&[
            (symbol("lifetime-policy"), Value::Described(described.as_described())),
            (symbol("supported-dist-modes"), Value::Array(modes.as_array())),
        ]);
        let properties = NodeProperties(Fields::new(map.as_map()).expect("symbols for keys"));
        assert_eq!(properties.lifetime_policy(), Some(*policy));
        let other = DistributionMode::Other(Symbol::literal("acme:mode"));
        assert!(properties.supported_distribution_modes().eq([DistributionMode::Copy, other]));
    }
    let none = NodeProperties(Fields::EMPTY);
    assert_eq!(none.lifetime_policy(), None);
    assert_eq!(none.supported_distribution_modes().count(), 0);
}

#[test]
fn a_filter_is_described_or_null() {
    let string = map_of(&[(symbol("f"), Value::String("x"))]);
    assert!(FilterSet::new(string.as_map()).is_none());
    let null = map_of(&[(symbol("f"), Value::Null)]);
    assert!(FilterSet::new(null.as_map()).is_some());
}

#[test]
fn a_message_that_is_passed_on_keeps_its_bare_message() {
    let annotations = map_of(&[(symbol("x-opt-a"), Value::Boolean(true))]);
    let properties = Properties { subject: Some("open"), ..Properties::default() };
    let parts = MessageParts {
        header: Header { durable: true, ttl: Some(1000), ..Header::default() },
        message_annotations: annotations.as_map(),
        properties,
        body: Body::Data(&[b"21", b".5"]),
        ..MessageParts::default()
    };
    let mut bytes = Vec::new();
    parts.encode(&mut bytes).expect("a short message");
    let message = Message::parse(&bytes).expect("a message");

    let mut passed_on = Vec::new();
    let header = Header { delivery_count: 1, ttl: Some(900), ..parts.header };
    encode_header(&header, &mut passed_on).expect("a header");
    encode_delivery_annotations(Map::EMPTY, &mut passed_on).expect("nothing");
    encode_message_annotations(annotations.as_map(), &mut passed_on).expect("annotations");
    passed_on.extend_from_slice(message.bare_bytes());
    passed_on.extend_from_slice(message.footer_bytes());

    let again = Message::parse(&passed_on).expect("a message");
    assert_eq!(again.header(), Ok(header));
    assert_eq!(again.bare_bytes(), message.bare_bytes());
    assert_eq!(again.properties(), Ok(properties));
    assert!(again.data().eq([&b"21"[..], b".5"]));
    assert!(!format!("{again:?}").contains("21"), "what it says is the application's");
}

#[test]
fn a_message_that_cannot_be_leaves_nothing_behind() {
    let strings = map_of(&[(Value::String("k"), Value::Null)]);
    let symbols = map_of(&[(symbol("k"), Value::Null)]);
    let list = map_of(&[(Value::String("k"), Value::List(fulcrum_amqp::List::EMPTY))]);
    let parts = MessageParts { body: Body::Value(Value::Null), ..MessageParts::default() };
    let refused = [
        (MessageParts { delivery_annotations: strings.as_map(), ..parts }, clause::ANNOTATIONS_KEY),
        (MessageParts { footer: strings.as_map(), ..parts }, clause::ANNOTATIONS_KEY),
        (
            MessageParts { application_properties: symbols.as_map(), ..parts },
            clause::APPLICATION_PROPERTIES_KEY,
        ),
        (
            MessageParts { application_properties: list.as_map(), ..parts },
            clause::APPLICATION_PROPERTIES_VALUE,
        ),
    ];
    for (parts, clause) in refused {
        let mut out = vec![9];
        assert_eq!(parts.encode(&mut out), Err(EncodeError::Invalid { clause }));
        assert_eq!(out, [9]);
    }
}

#[test]
fn values_are_shown_as_what_they_are() {
    let mut list = ListBuffer::new();
    let uuid = Value::Uuid(Uuid([0xAB; 16]));
    list.push(&Value::Int(1)).and_then(|list| list.push(&uuid)).expect("a short list");
    let shown = format!("{:?}", Value::List(list.as_list()));
    assert_eq!(shown, "List([Int(1), Uuid(abababab-abab-abab-abab-abababababab)])");
    assert_eq!(format!("{:?}", symbol("amqp:open:list")), "Symbol(:amqp:open:list)");
    assert_eq!(format!("{:?}", Outcome::Accepted), "Accepted");
}
