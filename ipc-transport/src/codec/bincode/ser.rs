//! Serde values to the bytes of the bincode 2 format.

use serde::ser::{self, Serialize};

use super::output::{Error, Output, too_deep, unsupported};

/// Writes one value that may nest `levels` deep.
#[inline]
pub(super) fn serialize<T: Serialize + ?Sized, O: Output>(
    value: &T,
    out: &mut O,
    levels: usize,
) -> Result<(), Error> {
    value.serialize(Serializer { out, levels })
}

struct Serializer<'a, O> {
    out: &'a mut O,
    levels: usize,
}

impl<'a, O: Output> Serializer<'a, O> {
    #[inline(always)]
    fn enter(self) -> Result<Self, Error> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { out: self.out, levels }),
            None => Err(too_deep()),
        }
    }

    #[inline(always)]
    fn enter_elements(self, len: Option<usize>) -> Result<Elements<'a, O>, Error> {
        let Some(len) = len else {
            return Err(unsupported("a sequence or map of unknown length"));
        };
        let Serializer { out, levels } = self.enter()?;
        out.put((len as u64).to_le_bytes())?;
        let mark = out.mark();
        Ok(Elements { out, levels, mark })
    }

    #[inline(always)]
    fn enter_fields(self) -> Result<Fields<'a, O>, Error> {
        let Serializer { out, levels } = self.enter()?;
        Ok(Fields { out, levels })
    }

    #[inline(always)]
    fn enter_variant(self, index: u32) -> Result<Self, Error> {
        let inner = self.enter()?;
        inner.out.put(index.to_le_bytes())?;
        Ok(inner)
    }
}

macro_rules! fixed_width {
    ($($method:ident: $type:ty,)*) => {$(
        #[inline(always)]
        fn $method(self, value: $type) -> Result<(), Error> {
            self.out.put(value.to_le_bytes())
        }
    )*};
}

impl<'a, O: Output> ser::Serializer for Serializer<'a, O> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Elements<'a, O>;
    type SerializeTuple = Fields<'a, O>;
    type SerializeTupleStruct = Fields<'a, O>;
    type SerializeTupleVariant = Fields<'a, O>;
    type SerializeMap = Elements<'a, O>;
    type SerializeStruct = Fields<'a, O>;
    type SerializeStructVariant = Fields<'a, O>;

    fixed_width! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_f64: f64,
    }

    #[inline(always)]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.put([u8::from(value)])
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.out.write(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.out.put((value.len() as u64).to_le_bytes())?;
        self.out.write(value)
    }

    #[inline(always)]
    fn serialize_none(self) -> Result<(), Error> {
        self.out.put([0])
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        let inner = self.enter()?;
        inner.out.put([1])?;
        value.serialize(inner)
    }

    #[inline(always)]
    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), Error> {
        self.out.put(index.to_le_bytes())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.enter()?)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.enter_variant(index)?)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Elements<'a, O>, Error> {
        self.enter_elements(len)
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Fields<'a, O>, Error> {
        self.enter_fields()
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Fields<'a, O>, Error> {
        self.enter_fields()
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Fields<'a, O>, Error> {
        let Serializer { out, levels } = self.enter_variant(index)?;
        Ok(Fields { out, levels })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Elements<'a, O>, Error> {
        self.enter_elements(len)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Fields<'a, O>, Error> {
        self.enter_fields()
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Fields<'a, O>, Error> {
        let Serializer { out, levels } = self.enter_variant(index)?;
        Ok(Fields { out, levels })
    }

    #[inline(always)]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence or the entries of a map.
pub(super) struct Elements<'a, O> {
    out: &'a mut O,
    levels: usize,
    /// The output's mark before the element or entry.
    mark: usize,
}

impl<O: Output> Elements<'_, O> {
    #[inline(always)]
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Serializer { out: &mut *self.out, levels: self.levels })
    }

    /// Charges an element that left no bytes. The receiver counts at least as much and would refuse; its exact count
    /// is the element's size in memory, which is hidden here behind references.
    #[inline(always)]
    fn close_item(&mut self) -> Result<(), Error> {
        let mark = self.out.mark();
        if mark == self.mark {
            let left = self.out.empty_left();
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => return Err(unsupported("so many elements without bytes")),
            }
        }
        self.mark = mark;
        Ok(())
    }
}

impl<O: Output> ser::SerializeSeq for Elements<'_, O> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)?;
        self.close_item()
    }

    #[inline(always)]
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<O: Output> ser::SerializeMap for Elements<'_, O> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.item(key)
    }

    #[inline(always)]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)?;
        self.close_item()
    }

    #[inline(always)]
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

/// The fields of a tuple, a struct or a variant.
pub(super) struct Fields<'a, O> {
    out: &'a mut O,
    levels: usize,
}

macro_rules! fields {
    ($($trait:ident, $method:ident ( $($key:ident: $type:ty)? );)*) => {$(
        impl<O: Output> ser::$trait for Fields<'_, O> {
            type Ok = ();
            type Error = Error;

            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, $($key: $type,)? value: &T) -> Result<(), Error> {
                value.serialize(Serializer { out: &mut *self.out, levels: self.levels })
            }

            #[inline(always)]
            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )*};
}

fields! {
    SerializeTuple, serialize_element();
    SerializeTupleStruct, serialize_field();
    SerializeTupleVariant, serialize_field();
    SerializeStruct, serialize_field(_key: &'static str);
    SerializeStructVariant, serialize_field(_key: &'static str);
}
