//! The bytes of the bincode 2 format to serde values.

use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, Visitor};

use super::reader::{Error, Reader, invalid, too_deep, unsupported};

/// Reads one value that may nest `levels` deep.
///
/// Each caller names a `SITE` of its own and so gets its own copy of the code: a type's `deserialize` with a single
/// caller is inlined there, and a small struct's fields then go from the input to their place without a stop on the
/// stack. Shared by two callers it takes four times as long for a struct of eight integers.
#[inline(always)]
pub(super) fn deserialize<'de, T: Deserialize<'de>, const SITE: u8>(
    reader: &mut Reader<'de>,
    levels: usize,
) -> Result<T, Error> {
    T::deserialize(Deserializer::<SITE> { reader, levels })
}

struct Deserializer<'a, 'de, const SITE: u8> {
    reader: &'a mut Reader<'de>,
    levels: usize,
}

impl<const SITE: u8> Deserializer<'_, '_, SITE> {
    #[inline(always)]
    fn enter(self) -> Result<Self, Error> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { reader: self.reader, levels }),
            None => Err(too_deep()),
        }
    }
}

macro_rules! fixed_width {
    ($($method:ident, $visit:ident: $type:ty,)*) => {$(
        #[inline(always)]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(<$type>::from_le_bytes(self.reader.array()?))
        }
    )*};
}

impl<'de, const SITE: u8> de::Deserializer<'de> for Deserializer<'_, 'de, SITE> {
    type Error = Error;

    fixed_width! {
        deserialize_i8, visit_i8: i8,
        deserialize_i16, visit_i16: i16,
        deserialize_i32, visit_i32: i32,
        deserialize_i64, visit_i64: i64,
        deserialize_i128, visit_i128: i128,
        deserialize_u8, visit_u8: u8,
        deserialize_u16, visit_u16: u16,
        deserialize_u32, visit_u32: u32,
        deserialize_u64, visit_u64: u64,
        deserialize_u128, visit_u128: u128,
        deserialize_f32, visit_f32: f32,
        deserialize_f64, visit_f64: f64,
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.reader.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(invalid("bool")),
        }
    }

    #[inline]
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_char(self.reader.character()?)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.reader.text()?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.reader.text()?)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.reader.bytes()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.reader.bytes()?)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.reader.byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self.enter()?),
            _ => Err(invalid("option tag")),
        }
    }

    #[inline(always)]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    #[inline(always)]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self.enter()?)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Deserializer { reader, levels } = self.enter()?;
        let left = reader.length()?;
        visitor.visit_seq(Elements::<SITE> { reader, levels, left, before: 0, key_size: 0 })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let Deserializer { reader, levels } = self.enter()?;
        visitor.visit_seq(Fields::<SITE> { reader, levels, left: len })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Deserializer { reader, levels } = self.enter()?;
        let left = reader.length()?;
        visitor.visit_map(Elements::<SITE> { reader, levels, left, before: 0, key_size: 0 })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }

    #[cold]
    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(unsupported("a type that must be described by the data"))
    }

    #[cold]
    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(unsupported("names of fields"))
    }

    #[cold]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(unsupported("a value to be skipped"))
    }

    #[inline(always)]
    fn is_human_readable(&self) -> bool {
        false
    }
}

impl<'de, const SITE: u8> de::EnumAccess<'de> for Deserializer<'_, 'de, SITE> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index = u32::from_le_bytes(self.reader.array()?);
        let variant = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(index))?;
        Ok((variant, self))
    }
}

impl<'de, const SITE: u8> de::VariantAccess<'de> for Deserializer<'_, 'de, SITE> {
    type Error = Error;

    #[inline(always)]
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.enter()?)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

/// The elements of a sequence or the entries of a map: as many as the data says.
struct Elements<'a, 'de, const SITE: u8> {
    reader: &'a mut Reader<'de>,
    levels: usize,
    left: u64,
    /// Bytes that remained before the key of the current entry.
    before: usize,
    /// What that key takes in memory.
    key_size: usize,
}

impl<'de, const SITE: u8> Elements<'_, 'de, SITE> {
    #[inline(always)]
    fn item<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Deserializer::<SITE> { reader: &mut *self.reader, levels: self.levels })
    }

    /// What is left, if the bytes that remain can hold it. A number that cannot be true asks for no memory.
    #[inline]
    fn plausible_left(&self) -> Option<usize> {
        (self.left <= self.reader.remaining() as u64).then_some(self.left as usize)
    }
}

impl<'de, const SITE: u8> de::SeqAccess<'de> for Elements<'_, 'de, SITE> {
    type Error = Error;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let before = self.reader.remaining();
        let value = self.item(seed)?;
        if self.reader.remaining() == before {
            self.reader.charge_empty(size_of::<T::Value>())?;
        }
        Ok(Some(value))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.plausible_left()
    }
}

impl<'de, const SITE: u8> de::MapAccess<'de> for Elements<'_, 'de, SITE> {
    type Error = Error;

    #[inline(always)]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.before = self.reader.remaining();
        self.key_size = size_of::<K::Value>();
        self.item(seed).map(Some)
    }

    #[inline(always)]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.item(seed)?;
        if self.reader.remaining() == self.before {
            self.reader.charge_empty(self.key_size.saturating_add(size_of::<V::Value>()))?;
        }
        Ok(value)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.plausible_left()
    }
}

/// The fields of a tuple, a struct or a variant: as many as the type says.
struct Fields<'a, 'de, const SITE: u8> {
    reader: &'a mut Reader<'de>,
    levels: usize,
    left: usize,
}

impl<'de, const SITE: u8> de::SeqAccess<'de> for Fields<'_, 'de, SITE> {
    type Error = Error;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Deserializer::<SITE> { reader: &mut *self.reader, levels: self.levels }).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}
