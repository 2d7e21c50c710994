//! Writes anew what was read, through the builders: values item by item, messages part by part. Also
//! included by the fuzz workspace.

#![allow(dead_code, reason = "part of several tests, each of which uses some of it")]

use fulcrum_amqp::{
    Array, ArrayBuffer, Body, BodyKind, DecodeError, DescribedBuffer, List, ListBuffer, MapBuffer,
    Message, MessageParts, Value, decode_value, encode_value,
};

/// A value put together again from what its views give.
pub fn value(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let written = match value {
        Value::List(list) => {
            let mut buffer = ListBuffer::new();
            for item in list.iter() {
                buffer.push(&read(&self::value(&item))).expect("a short list");
            }
            assert_eq!(buffer.as_list().len(), list.len());
            encode_value(&Value::List(buffer.as_list()), &mut out)
        }
        Value::Map(map) => {
            let mut buffer = MapBuffer::new();
            for (key, one) in map.iter() {
                let (key, one) = (self::value(&key), self::value(&one));
                buffer.push(&read(&key), &read(&one)).expect("a short map");
            }
            assert_eq!(buffer.as_map().len(), map.len());
            encode_value(&Value::Map(buffer.as_map()), &mut out)
        }
        Value::Array(array) => match rebuild_array(array) {
            Some(buffer) => encode_value(&Value::Array(buffer.as_array()), &mut out),
            None => encode_value(value, &mut out),
        },
        Value::Described(described) => {
            let inner = self::value(&described.value());
            let buffer = DescribedBuffer::new(&described.descriptor(), &read(&inner))
                .expect("a short value");
            encode_value(&Value::Described(buffer.as_described()), &mut out)
        }
        scalar => encode_value(scalar, &mut out),
    };
    written.expect("a short value");
    out
}

/// Without elements, nothing is left to say of which type they were.
fn rebuild_array(array: &Array<'_>) -> Option<ArrayBuffer> {
    let elements: Vec<Vec<u8>> = array.iter().map(|element| value(&element)).collect();
    assert_eq!(elements.len(), array.len());
    let elements: Vec<Value<'_>> = elements.iter().map(|element| read(element)).collect();
    if elements.is_empty() {
        return None;
    }
    Some(ArrayBuffer::new(&elements).expect("elements that came in an array"))
}

fn read(bytes: &[u8]) -> Value<'_> {
    decode_value(bytes).expect("what was put together can be read").0
}

/// A message put together again from what it says, if all of it can be read.
pub fn message(message: &Message<'_>) -> Result<Vec<u8>, DecodeError> {
    let data: Vec<&[u8]> = message.data().collect();
    let sequences: Vec<List<'_>> = message.sequences().collect::<Result<_, _>>()?;
    let body = match message.body_kind() {
        BodyKind::Empty => Body::Empty,
        BodyKind::Data => Body::Data(&data),
        BodyKind::Sequence => Body::Sequences(&sequences),
        BodyKind::Value => Body::Value(message.value()?.expect("there is one")),
    };
    let parts = MessageParts {
        header: message.header()?,
        delivery_annotations: message.delivery_annotations()?,
        message_annotations: message.message_annotations()?,
        properties: message.properties()?,
        application_properties: message.application_properties()?,
        body,
        footer: message.footer()?,
    };
    let mut out = Vec::new();
    parts.encode(&mut out).expect("what was read can be written");
    Ok(out)
}

/// Whether two messages say the same, however they are encoded.
pub fn say_the_same(one: &Message<'_>, two: &Message<'_>) -> bool {
    one.header() == two.header()
        && one.delivery_annotations() == two.delivery_annotations()
        && one.message_annotations() == two.message_annotations()
        && one.properties() == two.properties()
        && one.application_properties() == two.application_properties()
        && one.body_kind() == two.body_kind()
        && one.data().eq(two.data())
        && one.sequences().eq(two.sequences())
        && one.value() == two.value()
        && one.footer() == two.footer()
}
