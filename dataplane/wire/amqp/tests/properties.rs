//! Properties over every value and message that can be built: what is written reads back the same.

use fulcrum_amqp::{
    Address, ArrayBuffer, Body, DescribedBuffer, Header, ListBuffer, MapBuffer, Message, MessageId,
    MessageParts, Prefix, Properties, Symbol, Uuid, Value, decode_value, encode_value,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

mod rebuild;

/// A value that owns what it holds.
#[derive(Debug, Clone)]
enum Made {
    Scalar(Scalar),
    List(Vec<Made>),
    Map(Vec<(Made, Made)>),
    Array(Scalar, Vec<Made>),
    Described(Descriptor, Box<Made>),
}

#[derive(Debug, Clone)]
enum Descriptor {
    Number(u64),
    Symbol(String),
}

#[derive(Debug, Clone)]
enum Scalar {
    Fixed(Value<'static>),
    Binary(Vec<u8>),
    String(String),
    Symbol(String),
}

impl Scalar {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Fixed(value) => *value,
            Self::Binary(bytes) => Value::Binary(bytes),
            Self::String(text) => Value::String(text),
            Self::Symbol(text) => Value::Symbol(symbol(text)),
        }
    }
}

impl Made {
    /// Its bytes, through the buffers.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = match self {
            Self::Scalar(scalar) => encode_value(&scalar.value(), &mut out),
            Self::List(items) => {
                let mut list = ListBuffer::new();
                for item in items {
                    list.push(&read(&item.encode())).expect("a short list");
                }
                encode_value(&Value::List(list.as_list()), &mut out)
            }
            Self::Map(pairs) => {
                let mut map = MapBuffer::new();
                for (key, value) in pairs {
                    map.push(&read(&key.encode()), &read(&value.encode())).expect("a short map");
                }
                encode_value(&Value::Map(map.as_map()), &mut out)
            }
            Self::Array(like, elements) => {
                let elements: Vec<Vec<u8>> = elements.iter().map(Self::encode).collect();
                let elements: Vec<Value<'_>> = elements.iter().map(|bytes| read(bytes)).collect();
                let array = match elements.as_slice() {
                    [] => ArrayBuffer::empty(&like.value()),
                    all => ArrayBuffer::new(all),
                };
                let array = array.expect("elements of one type");
                encode_value(&Value::Array(array.as_array()), &mut out)
            }
            Self::Described(descriptor, value) => {
                let descriptor = match descriptor {
                    Descriptor::Number(number) => Value::Ulong(*number),
                    Descriptor::Symbol(text) => Value::Symbol(symbol(text)),
                };
                let described = DescribedBuffer::new(&descriptor, &read(&value.encode()))
                    .expect("a short value");
                encode_value(&Value::Described(described.as_described()), &mut out)
            }
        };
        written.expect("a short value");
        out
    }

    /// Whether a value that was read says what this one does.
    fn is(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Scalar(scalar), value) => scalar.value() == *value,
            (Self::List(made), Value::List(read)) => {
                made.len() == read.len() && made.iter().zip(read.iter()).all(|(a, b)| a.is(&b))
            }
            (Self::Map(made), Value::Map(read)) => {
                made.len() == read.len()
                    && made.iter().zip(read.iter()).all(|(a, b)| a.0.is(&b.0) && a.1.is(&b.1))
            }
            (Self::Array(_, made), Value::Array(read)) => {
                made.len() == read.len() && made.iter().zip(read.iter()).all(|(a, b)| a.is(&b))
            }
            (Self::Described(descriptor, made), Value::Described(read)) => {
                let is_same = match (descriptor, read.descriptor()) {
                    (Descriptor::Number(made), Value::Ulong(read)) => *made == read,
                    (Descriptor::Symbol(made), Value::Symbol(read)) => made == read.as_str(),
                    _ => false,
                };
                is_same && made.is(&read.value())
            }
            _ => false,
        }
    }
}

fn read(bytes: &[u8]) -> Value<'_> {
    decode_value(bytes).expect("what was written can be read").0
}

fn symbol(text: &str) -> Symbol<'_> {
    Symbol::new(text).expect("ASCII")
}

fn ascii() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[ -~]{0,12}", 1 => "[a-z]{250,260}"]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![9 => ".{0,12}", 1 => "[a-zü]{250,260}"]
}

/// Scalars of each type on its own, so that an array can have several of one.
fn scalars() -> Vec<BoxedStrategy<Scalar>> {
    let fixed = |values: BoxedStrategy<Value<'static>>| values.prop_map(Scalar::Fixed).boxed();
    vec![
        fixed(Just(Value::Null).boxed()),
        fixed(any::<bool>().prop_map(Value::Boolean).boxed()),
        fixed(any::<u8>().prop_map(Value::Ubyte).boxed()),
        fixed(any::<u16>().prop_map(Value::Ushort).boxed()),
        fixed(prop_oneof![0..300_u32, any::<u32>()].prop_map(Value::Uint).boxed()),
        fixed(prop_oneof![0..300_u64, any::<u64>()].prop_map(Value::Ulong).boxed()),
        fixed(any::<i8>().prop_map(Value::Byte).boxed()),
        fixed(any::<i16>().prop_map(Value::Short).boxed()),
        fixed(prop_oneof![-200..200_i32, any::<i32>()].prop_map(Value::Int).boxed()),
        fixed(prop_oneof![-200..200_i64, any::<i64>()].prop_map(Value::Long).boxed()),
        fixed(any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))).boxed()),
        fixed(any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))).boxed()),
        fixed(any::<[u8; 4]>().prop_map(Value::Decimal32).boxed()),
        fixed(any::<[u8; 8]>().prop_map(Value::Decimal64).boxed()),
        fixed(any::<[u8; 16]>().prop_map(Value::Decimal128).boxed()),
        fixed(any::<char>().prop_map(Value::Char).boxed()),
        fixed(any::<i64>().prop_map(Value::Timestamp).boxed()),
        fixed(any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(Uuid(bytes))).boxed()),
        vec(any::<u8>(), 0..300).prop_map(Scalar::Binary).boxed(),
        text().prop_map(Scalar::String).boxed(),
        ascii().prop_map(Scalar::Symbol).boxed(),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    proptest::strategy::Union::new(scalars())
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    prop_oneof![
        any::<u64>().prop_map(Descriptor::Number),
        (0..300_u64).prop_map(Descriptor::Number),
        ascii().prop_map(Descriptor::Symbol),
    ]
}

fn array_of_scalars() -> impl Strategy<Value = Made> {
    let arrays = scalars().into_iter().map(|kind| {
        let elements = vec(kind.clone().prop_map(Made::Scalar), 0..6);
        (kind, elements, option::of(descriptor())).prop_map(describe_elements).boxed()
    });
    proptest::strategy::Union::new(arrays.collect::<Vec<_>>())
}

/// The elements, all with the same descriptor. Without elements there is none.
fn describe_elements(parts: (Scalar, Vec<Made>, Option<Descriptor>)) -> Made {
    let (like, elements, descriptor) = parts;
    let describe = |element: Made| match &descriptor {
        Some(descriptor) => Made::Described(descriptor.clone(), Box::new(element)),
        None => element,
    };
    Made::Array(like, elements.into_iter().map(describe).collect())
}

fn made() -> impl Strategy<Value = Made> {
    let leaf = prop_oneof![3 => scalar().prop_map(Made::Scalar), 1 => array_of_scalars()];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let list = vec(inner.clone(), 0..6).prop_map(Made::List);
        let map = vec((inner.clone(), inner.clone()), 0..4).prop_map(Made::Map);
        let lists = vec(vec(inner.clone(), 0..4).prop_map(Made::List), 1..4);
        let array = lists.prop_map(|lists| Made::Array(Scalar::Fixed(Value::Null), lists));
        let described = (descriptor(), inner)
            .prop_map(|(descriptor, value)| Made::Described(descriptor, Box::new(value)));
        prop_oneof![list, map, array, described]
    })
}

/// A map with such keys.
fn map_of(key: fn(&str) -> Value<'_>, pairs: &[(String, Scalar)]) -> MapBuffer {
    let mut map = MapBuffer::new();
    for (name, value) in pairs {
        map.push(&key(name), &value.value()).expect("a short map");
    }
    map
}

fn symbol_key(text: &str) -> Value<'_> {
    Value::Symbol(symbol(text))
}

fn pairs() -> impl Strategy<Value = Vec<(String, Scalar)>> {
    vec((ascii(), scalar()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_value_reads_back_as_it_was_made(made in made()) {
        let bytes = made.encode();
        let (value, used) = decode_value(&bytes).expect("what was written can be read");
        prop_assert_eq!(used, bytes.len());
        prop_assert!(made.is(&value), "{:?} instead of {:?}", value, made);
        prop_assert_eq!(&rebuild::value(&value), &bytes, "there is one shortest form");
    }

    #[test]
    fn no_front_of_a_value_is_one(made in made(), cut in any::<Index>()) {
        let bytes = made.encode();
        prop_assert!(decode_value(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_changed_value_is_read_or_refused(
        made in made(), place in any::<Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = made.encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok((value, used)) = decode_value(&bytes) {
            prop_assert!(used <= bytes.len());
            let mut out = Vec::new();
            prop_assert!(encode_value(&value, &mut out).is_ok());
            prop_assert_eq!(decode_value(&out), Ok((value, out.len())));
        }
    }

    #[test]
    fn a_message_reads_back_whole_and_its_bare_message_is_one(
        header in (any::<bool>(), any::<u8>(), option::of(any::<u32>()), any::<u32>()),
        texts in vec(option::of(text()), 6),
        types in vec(option::of(ascii()), 2),
        ids in vec(option::of(prop_oneof![
            any::<u64>().prop_map(|number| Scalar::Fixed(Value::Ulong(number))),
            any::<[u8; 16]>().prop_map(|bytes| Scalar::Fixed(Value::Uuid(Uuid(bytes)))),
            vec(any::<u8>(), 0..20).prop_map(Scalar::Binary),
            text().prop_map(Scalar::String),
        ]), 2),
        times in any::<[Option<i64>; 2]>(),
        maps in vec(pairs(), 4),
        body in (0..4_u8, vec(vec(any::<u8>(), 0..300), 1..3), made()),
        cut in any::<Index>(),
    ) {
        let id = |index: usize| ids[index].as_ref().map(|id| match id {
            Scalar::Binary(bytes) => MessageId::Binary(bytes),
            Scalar::String(text) | Scalar::Symbol(text) => MessageId::String(text),
            Scalar::Fixed(Value::Uuid(uuid)) => MessageId::Uuid(*uuid),
            Scalar::Fixed(value) => MessageId::Ulong(match value {
                Value::Ulong(number) => *number,
                _ => 0,
            }),
        });
        let annotations = [0, 1, 2].map(|index| map_of(symbol_key, &maps[index]));
        let application = map_of(|text| Value::String(text), &maps[3]);
        let data: Vec<&[u8]> = body.1.iter().map(Vec::as_slice).collect();
        let bytes = body.2.encode();
        let value = read(&bytes);
        let list = match value {
            Value::List(list) => list,
            _ => fulcrum_amqp::List::EMPTY,
        };
        let sequences = [list, list];
        let parts = MessageParts {
            header: Header {
                durable: header.0,
                priority: header.1,
                ttl: header.2,
                first_acquirer: !header.0,
                delivery_count: header.3,
            },
            delivery_annotations: annotations[0].as_map(),
            message_annotations: annotations[1].as_map(),
            properties: Properties {
                message_id: id(0),
                user_id: texts[0].as_deref().map(str::as_bytes),
                to: texts[1].as_deref().map(Address),
                subject: texts[2].as_deref(),
                reply_to: texts[3].as_deref().map(Address),
                correlation_id: id(1),
                content_type: types[0].as_deref().map(symbol),
                content_encoding: types[1].as_deref().map(symbol),
                absolute_expiry_time: times[0],
                creation_time: times[1],
                group_id: texts[4].as_deref(),
                group_sequence: header.2,
                reply_to_group_id: texts[5].as_deref(),
            },
            application_properties: application.as_map(),
            body: match body.0 {
                0 => Body::Empty,
                1 => Body::Data(&data),
                2 => Body::Sequences(&sequences),
                _ => Body::Value(value),
            },
            footer: annotations[2].as_map(),
        };
        let mut out = Vec::new();
        parts.encode(&mut out).expect("a message that can be written");
        let message = Message::parse(&out).expect("what was written can be read");
        prop_assert_eq!(message.check(), Ok(()));
        prop_assert_eq!(message.header(), Ok(parts.header));
        prop_assert_eq!(message.properties(), Ok(parts.properties));
        prop_assert_eq!(message.delivery_annotations(), Ok(parts.delivery_annotations));
        prop_assert_eq!(message.message_annotations(), Ok(parts.message_annotations));
        prop_assert_eq!(message.application_properties(), Ok(parts.application_properties));
        prop_assert_eq!(message.footer(), Ok(parts.footer));
        match parts.body {
            Body::Empty => prop_assert!(message.body_bytes().is_empty()),
            Body::Data(pieces) => prop_assert!(message.data().eq(pieces.iter().copied())),
            Body::Sequences(lists) => {
                prop_assert!(message.sequences().eq(lists.iter().map(|list| Ok(*list))));
            }
            Body::Value(value) => prop_assert_eq!(message.value(), Ok(Some(value))),
        }

        let bare = Message::parse(message.bare_bytes()).expect("a message like another");
        prop_assert_eq!(bare.properties(), message.properties());
        prop_assert_eq!(bare.body_bytes(), message.body_bytes());
        prop_assert_eq!(&rebuild::message(&message).expect("all of it can be read"), &out);

        let front = &out[..cut.index(out.len() + 1)];
        let Prefix { message: begun, rest } = Message::parse_prefix(front).expect("a good front");
        prop_assert!(message.bare_bytes().starts_with(begun.bare_bytes()));
        prop_assert!(front.ends_with(rest));
    }
}
