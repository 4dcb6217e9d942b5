//! The one grammar of everything behind a frame's header, and the reading and writing of it.
//!
//! A payload, and each entry of a list in one, is laid out alike: a `u16` length, the fixed part of
//! that many bytes, the byte strings whose lengths the fixed part gives, the lists whose counts it
//! gives, and optional fields as tag, length and value to the end. A reader skips what follows the
//! fields it knows in a fixed part, and tags it does not know, so that fields can be added without a
//! new version. Reading checks everything once and borrows; what was read can be walked without
//! errors afterwards.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{DecodeError, Problem};

/// Bytes of the length in front of a fixed part.
pub(crate) const FIXED_LENGTH_BYTES: usize = 2;
/// Bytes of the length in front of an entry.
pub(crate) const ENTRY_LENGTH_BYTES: usize = 4;
/// Bytes of tag and length in front of an optional field's value.
pub const FIELD_HEADER_BYTES: usize = 5;

/// Something with a layout of its own: a payload, or an entry of a list.
pub trait Layout<'a>: Sized {
    /// What errors call it.
    const NAME: &'static str;

    /// Reads it from exactly these bytes.
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError>;

    /// Whether it can be read from exactly these bytes.
    #[inline(always)]
    fn check(bytes: &'a [u8]) -> Result<(), DecodeError> {
        Self::read(bytes).map(drop)
    }

    /// Bytes of the texts and byte strings in it, which its frame has at least. `None`: one of them is too long
    /// for the layout, or a list has too many entries, so that it cannot be written.
    fn text_bytes(&self) -> Option<usize>;

    /// Appends its bytes.
    fn write(&self, out: &mut Vec<u8>);
}

/// Takes little-endian fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<&'a [u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(DecodeError::malformed(Problem::EndsInside { what })),
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(DecodeError::malformed(Problem::EndsInside { what })),
        }
    }

    pub(crate) fn text(&mut self, length: usize, what: &'static str) -> Result<&'a str, DecodeError> {
        as_text(self.bytes(length, what)?, what)
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(*self.array(what)?))
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(*self.array(what)?))
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(*self.array(what)?))
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(*self.array(what)?))
    }

    /// Takes a fixed part with its length; the caller reads the fields it knows and drops the rest.
    #[inline(always)]
    pub(crate) fn fixed(&mut self, what: &'static str) -> Result<Reader<'a>, DecodeError> {
        let length = self.u16(what)?;
        Ok(Reader::new(self.bytes(usize::from(length), what)?))
    }

    /// Takes an entry with its length.
    #[inline(always)]
    pub(crate) fn entry(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u32(what)?;
        self.bytes(length as usize, what)
    }
}

pub(crate) fn as_text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed(Problem::NotText { what }))
}

/// Writes a fixed part: its length goes in front once `fields` has written it.
pub(crate) fn write_fixed(out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FIXED_LENGTH_BYTES]);
    fields(out);
    let length = u16::try_from(out.len() - start - FIXED_LENGTH_BYTES).expect("fixed parts are short");
    out[start..start + FIXED_LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Appends zeros, to be filled in where they are: a processor that has just written several numbers somewhere
/// waits for them before it can copy them from there in one piece.
#[inline(always)]
pub(crate) fn zeros_at_end<const N: usize>(out: &mut Vec<u8>) -> &mut [u8; N] {
    out.extend_from_slice(&[0; N]);
    out.last_chunk_mut().expect("so many bytes were just appended")
}

/// Writes an entry: its length goes in front once `content` has written it.
pub(crate) fn write_entry(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; ENTRY_LENGTH_BYTES]);
    content(out);
    let length = length_u32(out.len() - start - ENTRY_LENGTH_BYTES);
    out[start..start + ENTRY_LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// A length as the wire carries it.
///
/// # Panics
///
/// If there are 4 GiB or more of it, which no frame limit allows; only a caller's mistake leads here.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("no part of a frame reaches 4 GiB")
}

/// A length of a byte string as the fixed part carries it.
///
/// # Panics
///
/// If there are 64 KiB or more of it; only a caller's mistake leads here.
pub(crate) fn length_u16(length: usize) -> u16 {
    u16::try_from(length).expect("short strings and lists stay under 65,536")
}

/// The same length, where [`length_u16`] can carry it.
pub(crate) fn short(length: usize) -> Option<usize> {
    (length <= usize::from(u16::MAX)).then_some(length)
}

/// A plain number in a fixed part.
pub(crate) trait Scalar: Sized {
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! scalars {
    ($($number:ident),*) => { $(
        impl Scalar for $number {
            #[inline(always)]
            fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
                reader.$number(what)
            }
            #[inline(always)]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}
scalars!(u8, u16, u32, u64);

impl Scalar for [u8; 16] {
    #[inline(always)]
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        reader.array(what).copied()
    }
    #[inline(always)]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// A `u16` of flags of which none has a meaning yet: it is written as 0, and a set bit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoFlags;

impl Scalar for NoFlags {
    #[inline(always)]
    fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, DecodeError> {
        match reader.u16(what)? {
            0 => Ok(Self),
            flags => Err(DecodeError::reserved(what, flags, 0)),
        }
    }
    #[inline(always)]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 2]);
    }
}

/// A byte string whose length (a `u16`) stands in the fixed part.
pub(crate) trait Piece<'a>: Sized {
    fn take(reader: &mut Reader<'a>, length: usize, what: &'static str) -> Result<Self, DecodeError>;
    fn as_piece(&self) -> &[u8];
}

impl<'a> Piece<'a> for &'a str {
    fn take(reader: &mut Reader<'a>, length: usize, what: &'static str) -> Result<Self, DecodeError> {
        reader.text(length, what)
    }
    fn as_piece(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<'a> Piece<'a> for &'a [u8] {
    fn take(reader: &mut Reader<'a>, length: usize, what: &'static str) -> Result<Self, DecodeError> {
        reader.bytes(length, what)
    }
    fn as_piece(&self) -> &[u8] {
        self
    }
}

/// The value of an optional field.
pub(crate) trait FieldValue<'a>: Sized {
    fn from_value(bytes: &'a [u8], what: &'static str) -> Result<Self, DecodeError>;
    fn value_bytes(&self) -> usize;
    fn write_value(&self, out: &mut Vec<u8>);
}

impl<'a> FieldValue<'a> for &'a str {
    fn from_value(bytes: &'a [u8], what: &'static str) -> Result<Self, DecodeError> {
        as_text(bytes, what)
    }
    fn value_bytes(&self) -> usize {
        self.len()
    }
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl<'a> FieldValue<'a> for &'a [u8] {
    fn from_value(bytes: &'a [u8], _what: &'static str) -> Result<Self, DecodeError> {
        Ok(bytes)
    }
    fn value_bytes(&self) -> usize {
        self.len()
    }
    fn write_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// Appends an optional field: tag, length, value.
pub fn write_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&length_u32(value.len()).to_le_bytes());
    out.extend_from_slice(value);
}

/// Checks that `bytes` are optional fields with rising tags, to the end.
#[inline(always)]
pub(crate) fn check_fields(bytes: &[u8], what: &'static str) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { check_some_fields(bytes, what) }
}

fn check_some_fields(bytes: &[u8], what: &'static str) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut previous = 0;
    while !reader.rest.is_empty() {
        let tag = reader.u8(what)?;
        if tag <= previous {
            return Err(DecodeError::malformed(Problem::FieldOrder { what, tag, previous }));
        }
        previous = tag;
        reader.entry(what)?;
    }
    Ok(())
}

/// The optional fields at the end of a payload, an entry or a message's content, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Fields from bytes that may be anything: what is not whole is taken as the end.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The value of the field with this tag.
    pub fn value(self, tag: u8) -> Option<&'a [u8]> {
        for (found, value) in self {
            if found == tag {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some((tag, value))
    }
}

/// A list: checked bytes of a frame, or a slice of what shall become one.
pub struct Entries<'a, E> {
    source: Source<'a, E>,
}

enum Source<'a, E> {
    Wire { count: u16, bytes: &'a [u8], entry: PhantomData<E> },
    Slice(&'a [E]),
}

impl<E> Clone for Entries<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Entries<'_, E> {}

impl<E> Clone for Source<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Source<'_, E> {}

impl<E> Default for Entries<'_, E> {
    fn default() -> Self {
        Self::of(&[])
    }
}

impl<'a, E> From<&'a [E]> for Entries<'a, E> {
    fn from(entries: &'a [E]) -> Self {
        Self::of(entries)
    }
}

impl<'a, E> Entries<'a, E> {
    /// A list to encode; at most 65,535 entries.
    pub const fn of(entries: &'a [E]) -> Self {
        Self { source: Source::Slice(entries) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self.source {
            Source::Wire { count, .. } => usize::from(count),
            Source::Slice(entries) => entries.len(),
        }
    }

    /// Bytes that they took in their frame; `None` where they are to become one.
    pub fn wire_bytes(&self) -> Option<usize> {
        match self.source {
            Source::Wire { bytes, .. } => Some(bytes.len()),
            Source::Slice(_) => None,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, E: Layout<'a> + Copy> Entries<'a, E> {
    /// Checks and takes `count` entries.
    #[inline(always)]
    pub(crate) fn take(reader: &mut Reader<'a>, count: u16) -> Result<Self, DecodeError> {
        let whole = reader.rest;
        for _ in 0..count {
            E::check(reader.entry(E::NAME)?)?;
        }
        let bytes = &whole[..whole.len() - reader.rest.len()];
        Ok(Self { source: Source::Wire { count, bytes, entry: PhantomData } })
    }

    pub(crate) fn text_bytes(&self) -> Option<usize> {
        short(self.len())?;
        match self.source {
            // What stood in a frame can be written into one.
            Source::Wire { bytes, .. } => Some(bytes.len()),
            Source::Slice(entries) => entries
                .iter()
                .try_fold(0_usize, |bytes, entry| Some(bytes.saturating_add(entry.text_bytes()?))),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for entry in *self {
            write_entry(out, |out| entry.write(out));
        }
    }

    /// Walks the entries as they are, without taking those of a frame apart.
    #[inline(always)]
    pub(crate) fn for_each_raw(self, mut each: impl FnMut(Raw<'a, E>)) {
        let (count, bytes, entries) = match self.source {
            Source::Wire { count, bytes, .. } => (usize::from(count), bytes, None),
            Source::Slice(entries) => (entries.len(), &[][..], Some(entries)),
        };
        let mut reader = Reader::new(bytes);
        for index in 0..count {
            each(match entries {
                None => {
                    // The entries were checked when the list was taken, so this does not fail.
                    let Ok(entry) = reader.entry(E::NAME) else { return };
                    Raw::Wire(entry)
                }
                Some(entries) => Raw::Ready(&entries[index]),
            });
        }
    }

    /// Walks the entries.
    #[inline]
    pub fn iter(&self) -> EntriesIter<'a, E> {
        EntriesIter { source: self.source }
    }
}

impl<'a, E: Layout<'a> + Copy> IntoIterator for Entries<'a, E> {
    type Item = E;
    type IntoIter = EntriesIter<'a, E>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, E: Layout<'a> + Copy + fmt::Debug> fmt::Debug for Entries<'a, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl<'a, E: Layout<'a> + Copy + PartialEq> PartialEq for Entries<'a, E> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// An entry of either source.
pub(crate) enum Raw<'a, E> {
    Wire(&'a [u8]),
    Ready(&'a E),
}

/// Walks a list.
pub struct EntriesIter<'a, E> {
    source: Source<'a, E>,
}

impl<'a, E: Layout<'a> + Copy> Iterator for EntriesIter<'a, E> {
    type Item = E;

    #[inline(always)]
    fn next(&mut self) -> Option<E> {
        match &mut self.source {
            Source::Wire { count, bytes, .. } => {
                let mut reader = Reader::new(bytes);
                // The entries were checked when the list was taken, so neither read fails.
                let entry = E::read(reader.entry(E::NAME).ok()?).ok()?;
                *bytes = reader.rest;
                *count -= 1;
                Some(entry)
            }
            Source::Slice(entries) => {
                let (first, rest) = entries.split_first()?;
                *entries = rest;
                Some(*first)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let length = match self.source {
            Source::Wire { count, .. } => usize::from(count),
            Source::Slice(entries) => entries.len(),
        };
        (length, Some(length))
    }
}

impl<'a, E: Layout<'a> + Copy> ExactSizeIterator for EntriesIter<'a, E> {}

/// Declares a payload or an entry by its layout: what is in the fixed part, which byte strings and
/// lists follow it, and which optional fields by tag. The order of the wire is the order here.
macro_rules! layout {
    (
        $(#[$about:meta])*
        pub struct $name:ident $(<$life:lifetime>)? as $what:literal {
            $(fixed { $($(#[$scalar_about:meta])* $scalar:ident: $scalar_type:ty,)* })?
            $(pieces { $($(#[$piece_about:meta])* $piece:ident: $piece_type:ty,)* })?
            $(lists { $($(#[$list_about:meta])* $list:ident: $list_type:ty,)* })?
            $(fields { $($(#[$field_about:meta])* $tag:literal $field:ident: $field_type:ty,)* })?
            $(check $check:path;)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct $name $(<$life>)? {
            $($($(#[$scalar_about])* pub $scalar: $scalar_type,)*)?
            $($($(#[$piece_about])* pub $piece: $piece_type,)*)?
            $($($(#[$list_about])* pub $list: $crate::layout::Entries<'a, $list_type>,)*)?
            $($($(#[$field_about])* pub $field: Option<$field_type>,)*)?
        }

        impl<'a> $crate::layout::Layout<'a> for $name $(<$life>)? {
            const NAME: &'static str = $what;

            #[allow(unused_imports, unused_mut, unused_variables, unused_assignments)]
            #[inline]
            fn read(bytes: &'a [u8]) -> Result<Self, $crate::error::DecodeError> {
                use $crate::layout::{Entries, FieldValue, Fields, Piece, Reader, Scalar};
                let mut reader = Reader::new(bytes);
                let mut fixed = reader.fixed($what)?;
                $($(let $scalar = <$scalar_type as Scalar>::read(
                    &mut fixed, concat!($what, ": ", stringify!($scalar)))?;)*)?
                $($(let $piece = fixed.u16(concat!($what, ": length of ", stringify!($piece)))?;)*)?
                $($(let $list = fixed.u16(concat!($what, ": count of ", stringify!($list)))?;)*)?
                $($(let $piece = <$piece_type as Piece>::take(
                    &mut reader, usize::from($piece), concat!($what, ": ", stringify!($piece)))?;)*)?
                $($(let $list = Entries::<'a, $list_type>::take(&mut reader, $list)?;)*)?
                $crate::layout::check_fields(reader.rest, $what)?;
                $($(let mut $field = None;)*
                for (tag, value) in Fields::new(reader.rest) {
                    match tag {
                        $($tag => {
                            let what = concat!($what, ": ", stringify!($field));
                            $field = Some(<$field_type as FieldValue>::from_value(value, what)?);
                        })*
                        _ => {}
                    }
                })?
                let value = Self {
                    $($($scalar,)*)?
                    $($($piece,)*)?
                    $($($list,)*)?
                    $($($field,)*)?
                };
                $($check(&value)?;)?
                Ok(value)
            }

            #[allow(unused_imports, unused_mut)]
            #[inline]
            fn text_bytes(&self) -> Option<usize> {
                use $crate::layout::{FieldValue, Piece, short};
                let mut bytes = 0_usize;
                $($(bytes = bytes.saturating_add(short(self.$piece.as_piece().len())?);)*)?
                $($(bytes = bytes.saturating_add(self.$list.text_bytes()?);)*)?
                $($(if let Some(value) = &self.$field {
                    bytes = bytes.saturating_add(FieldValue::value_bytes(value));
                })*)?
                Some(bytes)
            }

            #[allow(unused_imports, unused_variables)]
            fn write(&self, out: &mut Vec<u8>) {
                use $crate::layout::{FieldValue, Piece, Scalar};
                $crate::layout::write_fixed(out, |out| {
                    $($(Scalar::write(&self.$scalar, out);)*)?
                    $($(Scalar::write(&$crate::layout::length_u16(self.$piece.as_piece().len()), out);)*)?
                    $($(Scalar::write(&$crate::layout::length_u16(self.$list.len()), out);)*)?
                });
                $($(out.extend_from_slice(self.$piece.as_piece());)*)?
                $($(self.$list.write(out);)*)?
                $($(if let Some(value) = &self.$field {
                    out.push($tag);
                    $crate::layout::write_entry(out, |out| FieldValue::write_value(value, out));
                })*)?
            }
        }
    };
}
pub(crate) use layout;
