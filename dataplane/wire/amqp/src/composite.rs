//! Composite types: described lists whose items are fields by position (part 1, 1.4).
//!
//! [`composite!`] makes a struct of such a type from the specification's table of its fields, and
//! with it how it is read and written, so that the two cannot come apart. What a field says of
//! itself is how it is there:
//! - `mandatory`: null and absence are refused;
//! - `optional`: an `Option`;
//! - `default(value)`: null and absence mean the value, and the value is written as null.
//!
//! Fields behind the last one that is not null are not written.

use crate::clause;
use crate::error::{DecodeError, EncodeError, FieldName, invalid_field, malformed};
use crate::value::compound::{Array, Described, List, Map};
use crate::value::read::{self, Reader, Walk};
use crate::value::symbol::{Symbol, Symbols};
use crate::value::{Uuid, Value, format, write};

/// What can be a field of a composite.
pub(crate) trait Field<'a>: Sized {
    /// From a value that is not null, and was checked as one.
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError>;

    /// Appends it as a value.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// A composite type.
pub(crate) trait Composite<'a>: Sized {
    const DESCRIPTOR: u64;

    /// From its fields, which the walk has still to check if it is a deep one.
    fn read(list: List<'a>, walk: Walk) -> Result<Self, DecodeError>;

    /// Appends descriptor and fields.
    fn write_composite(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// A composite from a value, where no other composite can be.
pub(crate) fn from_value<'a, T: Composite<'a>>(value: Value<'a>) -> Result<T, DecodeError> {
    let Value::Described(described) = value else {
        return Err(malformed(clause::COMPOSITE_NOT_DESCRIBED));
    };
    if described.code() != Some(T::DESCRIPTOR) {
        return Err(malformed(clause::COMPOSITE_UNKNOWN));
    }
    from_described(&described)
}

/// A composite whose descriptor the caller has looked at.
pub(crate) fn from_described<'a, T: Composite<'a>>(
    described: &Described<'a>,
) -> Result<T, DecodeError> {
    match described.value() {
        Value::List(list) => T::read(list, Walk::SHALLOW),
        _ => Err(malformed(clause::COMPOSITE_NOT_DESCRIBED)),
    }
}

/// A composite's descriptor and fields from bytes nobody has looked at.
pub(crate) fn head<'a>(
    reader: &mut Reader<'a>,
) -> Result<(Option<u64>, List<'a>, Walk), DecodeError> {
    if reader.byte()? != format::DESCRIBED {
        return Err(malformed(clause::COMPOSITE_NOT_DESCRIBED));
    }
    let walk = Walk::DEEP.inner()?;
    let descriptor = read::descriptor(reader)?;
    // Cut out without a look at the items: they are checked as fields are read.
    match read::value(reader, Walk::SHALLOW)? {
        Value::List(list) => Ok((crate::descriptor::code(descriptor), list, walk.inner()?)),
        _ => Err(malformed(clause::COMPOSITE_NOT_DESCRIBED)),
    }
}

/// Reads the fields of a composite one after the other.
pub(crate) struct FieldReader<'a> {
    composite: &'static str,
    left: usize,
    reader: Reader<'a>,
    walk: Walk,
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(composite: &'static str, list: List<'a>, walk: Walk) -> Self {
        Self { composite, left: list.count, reader: Reader::new(list.items), walk }
    }

    /// The next field, or `None` if it is null or was left out.
    pub(crate) fn next<T: Field<'a>>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let value = read::value(&mut self.reader, self.walk);
        let value = match value {
            Ok(Value::Null) => return Ok(None),
            Ok(value) => T::from_value(value),
            Err(error) => Err(error),
        };
        value.map(Some).map_err(|error| error.within(self.name(field)))
    }

    /// The next field, which must not be null.
    pub(crate) fn mandatory<T: Field<'a>>(
        &mut self,
        field: &'static str,
    ) -> Result<T, DecodeError> {
        match self.next(field)? {
            Some(value) => Ok(value),
            None => Err(invalid_field(clause::FIELD_MISSING).within(self.name(field))),
        }
    }

    /// There is nothing behind the last field.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.left > 0 {
            return Err(malformed(clause::FIELDS_TOO_MANY).within(self.name("")));
        }
        if self.reader.is_empty() { Ok(()) } else { Err(malformed(clause::COMPOUND_TRAILING)) }
    }

    fn name(&self, field: &'static str) -> FieldName {
        FieldName { composite: self.composite, field }
    }
}

/// Writes the fields of a composite one after the other.
pub(crate) struct FieldWriter<'o> {
    out: &'o mut Vec<u8>,
    count: u8,
    /// Fields and bytes up to the last one that is not null.
    kept: (u8, usize),
}

impl FieldWriter<'_> {
    pub(crate) fn null(&mut self) {
        self.out.push(format::NULL);
        self.count += 1;
    }

    pub(crate) fn field<'a, T: Field<'a>>(&mut self, field: &T) -> Result<(), EncodeError> {
        let start = self.out.len();
        field.write(self.out)?;
        self.count += 1;
        if self.out[start..] != [format::NULL] {
            self.kept = (self.count, self.out.len());
        }
        Ok(())
    }
}

/// Appends a composite whose fields `write` writes. On an error the caller drops what was written.
pub(crate) fn write_fields(
    descriptor: u64,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut FieldWriter<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    out.push(format::DESCRIBED);
    write::ulong(descriptor, out);
    let list = out.len();
    out.extend([format::LIST_8, 0, 0]);
    let start = out.len();
    let mut fields = FieldWriter { out, count: 0, kept: (0, start) };
    write(&mut fields)?;
    let (count, end) = fields.kept;
    out.truncate(end);
    let bytes = end - start;
    if count == 0 {
        out.truncate(list);
        out.push(format::LIST_0);
    } else if let Ok(size) = u8::try_from(bytes + 1) {
        out[list + 1] = size;
        out[list + 2] = count;
    } else {
        let size = write::length(bytes.saturating_add(4))?.to_be_bytes();
        let head = [format::LIST_32].into_iter().chain(size).chain([0, 0, 0, count]);
        out.splice(list..start, head);
    }
    Ok(())
}

/// Makes a composite type of its table of fields; see the module's text.
macro_rules! composite {
    (
        $(#[$meta:meta])*
        $name:ident $(<$life:lifetime>)? as $spelled:literal = $descriptor:expr;
        $($(#[$field_meta:meta])* $presence:ident $(($default:expr))? $field:ident: $type:ty,)*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_meta])* pub $field: $crate::composite::field_type!($presence $type),)*
        }

        $crate::composite::composite!(@implement
            [$($life)?] [$name $(<$life>)?] $spelled, $descriptor,
            $($presence $(($default))? $field,)*
        );
    };

    (@implement [] [$($whole:tt)+] $($rest:tt)*) => {
        $crate::composite::composite!(@implement ['a] [$($whole)+] $($rest)*);
    };

    (@implement [$life:lifetime] [$($whole:tt)+] $spelled:literal, $descriptor:expr,
        $($presence:ident $(($default:expr))? $field:ident,)*
    ) => {
        impl<$life> $crate::composite::Composite<$life> for $($whole)+ {
            const DESCRIPTOR: u64 = $descriptor;

            #[allow(unused_mut, reason = "of a composite without fields none are read")]
            fn read(
                list: $crate::value::compound::List<$life>,
                walk: $crate::value::read::Walk,
            ) -> Result<Self, $crate::DecodeError> {
                let mut fields = $crate::composite::FieldReader::new($spelled, list, walk);
                let composite = Self {
                    $($field: $crate::composite::read_field!(
                        fields $presence $(($default))? $field
                    ),)*
                };
                fields.finish()?;
                Ok(composite)
            }

            fn write_composite(&self, out: &mut Vec<u8>) -> Result<(), $crate::EncodeError> {
                $crate::composite::write_fields($descriptor, out, |_fields| {
                    $($crate::composite::write_field!(
                        _fields $presence $(($default))? self.$field
                    );)*
                    Ok(())
                })
            }
        }

        impl<$life> $crate::composite::Field<$life> for $($whole)+ {
            fn from_value(
                value: $crate::value::Value<$life>,
            ) -> Result<Self, $crate::DecodeError> {
                $crate::composite::from_value(value)
            }

            fn write(&self, out: &mut Vec<u8>) -> Result<(), $crate::EncodeError> {
                $crate::composite::Composite::write_composite(self, out)
            }
        }
    };
}

macro_rules! field_type {
    (optional $type:ty) => { Option<$type> };
    ($presence:ident $type:ty) => { $type };
}

macro_rules! read_field {
    ($fields:ident mandatory $field:ident) => {
        $fields.mandatory(stringify!($field))?
    };
    ($fields:ident optional $field:ident) => {
        $fields.next(stringify!($field))?
    };
    ($fields:ident default($default:expr) $field:ident) => {
        $fields.next(stringify!($field))?.unwrap_or($default)
    };
}

macro_rules! write_field {
    ($fields:ident mandatory $self:ident.$field:ident) => {
        $fields.field(&$self.$field)?
    };
    ($fields:ident optional $self:ident.$field:ident) => {
        match &$self.$field {
            Some(field) => $fields.field(field)?,
            None => $fields.null(),
        }
    };
    ($fields:ident default($default:expr) $self:ident.$field:ident) => {
        if $self.$field == $default {
            $fields.null();
        } else {
            $fields.field(&$self.$field)?;
        }
    };
}

pub(crate) use {composite, field_type, read_field, write_field};

/// A field that is one of the types of values.
macro_rules! field_of_value {
    ($($type:ty = $variant:ident;)*) => {
        $(impl<'a> Field<'a> for $type {
            fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
                match value {
                    Value::$variant(value) => Ok(value),
                    _ => Err(malformed(clause::FIELD_TYPE)),
                }
            }

            fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                write::value(&Value::$variant(*self), out)
            }
        })*
    };
}

field_of_value! {
    bool = Boolean;
    u8 = Ubyte;
    u16 = Ushort;
    u32 = Uint;
    u64 = Ulong;
    i64 = Timestamp;
    Uuid = Uuid;
    &'a [u8] = Binary;
    &'a str = String;
    Symbol<'a> = Symbol;
    List<'a> = List;
    Map<'a> = Map;
    Array<'a> = Array;
}

/// Any value, which is null if the field is.
impl<'a> Field<'a> for Value<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        Ok(value)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::value(self, out)
    }
}

impl<'a> Field<'a> for Symbols<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, DecodeError> {
        Symbols::from_value(value)
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write::symbols(self, out)
    }
}
