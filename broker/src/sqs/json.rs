//! AWS JSON 1.0: requests. Nothing is built but the action itself; texts borrow from the body.
//!
//! Bounds: a list or a map has at most [`LIST_MAX`] members, and serde_json refuses to go deeper than 128
//! levels. What is unknown is skipped, without being kept. The length of a body is for who reads it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::actions::{
    Action, ActionName, ChangeVisibilityEntry, DeleteEntry, MessageAttribute, Pair, SendEntry,
};
use super::error::{ErrorName, ServiceError};
use super::parameters::{Parameters, for_each_action};
use super::text::Text;

/// Most members of any list or map in a request. The longest that means something has 50.
pub const LIST_MAX: usize = 1_000;

/// What stands before the action's name in the header `X-Amz-Target`.
const TARGET_PREFIX: &str = "AmazonSQS.";

/// Base64 as it is sent: with padding, or where somebody forgot it, without.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a request: the header `X-Amz-Target`, and the body.
pub fn parse<'a>(target: &str, body: &'a [u8]) -> Result<Action<'a>, ServiceError> {
    let action = target.strip_prefix(TARGET_PREFIX).and_then(ActionName::parse).ok_or_else(|| {
        let text = format!("The target {target} is not an action of {TARGET_PREFIX}*.");
        ServiceError::new(ErrorName::UnknownOperation, text)
    })?;
    // An action without parameters may come without a body.
    let body = if body.is_empty() { b"{}" } else { body };
    let action = for_each_action!(action, read(body))?;
    action.check()?;
    Ok(action)
}

fn read<'a, P: Parameters<'a>>(body: &'a [u8]) -> Result<P, ServiceError> {
    // Looked at once as a whole, rather than text by text. What is not UTF-8 may stand where nobody reads it.
    let object = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str::<Object<P>>(text),
        Err(_) => serde_json::from_slice::<Object<P>>(body),
    };
    let Object(parameters) =
        object.map_err(|error| ServiceError::new(ErrorName::Serialization, error.to_string()))?;
    parameters.require()?;
    Ok(parameters)
}

/// A value of a parameter.
pub(super) trait FromJson<'a>: Sized {
    /// Takes the value that comes next in the object. One that is null was not given.
    fn next_value<M: MapAccess<'a>>(map: &mut M) -> Result<Self, M::Error>;
}

impl<'a> FromJson<'a> for Text<'a> {
    fn next_value<M: MapAccess<'a>>(map: &mut M) -> Result<Self, M::Error> {
        map.next_value::<Option<Text<'a>>>().map(Option::unwrap_or_default)
    }
}

impl<'a> FromJson<'a> for Option<Text<'a>> {
    fn next_value<M: MapAccess<'a>>(map: &mut M) -> Result<Self, M::Error> {
        map.next_value()
    }
}

impl<'a> FromJson<'a> for Option<i64> {
    fn next_value<M: MapAccess<'a>>(map: &mut M) -> Result<Self, M::Error> {
        map.next_value()
    }
}

macro_rules! lists {
    ($($item:ty => $list:ident,)*) => {$(
        impl<'a> FromJson<'a> for Vec<$item> {
            fn next_value<M: MapAccess<'a>>(map: &mut M) -> Result<Self, M::Error> {
                Ok(map.next_value::<Option<$list<_>>>()?.map(|list| list.0).unwrap_or_default())
            }
        }
    )*};
}

lists! {
    Text<'a> => List,
    Pair<'a> => Members,
    MessageAttribute<'a> => Members,
    SendEntry<'a> => Objects,
    DeleteEntry<'a> => Objects,
    ChangeVisibilityEntry<'a> => Objects,
}

/// An object with parameters.
struct Object<P>(P);

impl<'de, P: Parameters<'de>> Deserialize<'de> for Object<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<P>(PhantomData<P>);
        impl<'de, P: Parameters<'de>> Visitor<'de> for ObjectVisitor<P> {
            type Value = Object<P>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<P>, M::Error> {
                let mut parameters = P::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    if !parameters.take_json(&name, &mut map)? {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Object(parameters))
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A list of no more than [`LIST_MAX`].
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<List<T>, S::Error> {
                let mut list = Vec::new();
                while let Some(item) = sequence.next_element()? {
                    check_room(list.len())?;
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// A list of objects with parameters.
struct Objects<P>(Vec<P>);

impl<'de, P: Parameters<'de>> Deserialize<'de> for Objects<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = List::<Object<P>>::deserialize(deserializer)?;
        Ok(Self(list.0.into_iter().map(|Object(parameters)| parameters).collect()))
    }
}

/// What can be a member of an object that is a map: of attributes, or of tags.
trait Member<'de>: Sized {
    fn read<M: MapAccess<'de>>(name: Text<'de>, map: &mut M) -> Result<Self, M::Error>;
}

impl<'de> Member<'de> for Pair<'de> {
    fn read<M: MapAccess<'de>>(name: Text<'de>, map: &mut M) -> Result<Self, M::Error> {
        Ok(Self { name, value: map.next_value()? })
    }
}

impl<'de> Member<'de> for MessageAttribute<'de> {
    fn read<M: MapAccess<'de>>(name: Text<'de>, map: &mut M) -> Result<Self, M::Error> {
        let Object(AttributeValue(attribute)) = map.next_value()?;
        Ok(Self { name, ..attribute })
    }
}

/// A map of no more than [`LIST_MAX`] members, in the order that they came in.
struct Members<T>(Vec<T>);

impl<'de, T: Member<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor<T>(PhantomData<T>);
        impl<'de, T: Member<'de>> Visitor<'de> for MembersVisitor<T> {
            type Value = Members<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<T>, M::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key()? {
                    check_room(members.len())?;
                    members.push(T::read(name, &mut map)?);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

/// A message's attribute without its name, which stands before it.
#[derive(Default)]
struct AttributeValue<'a>(MessageAttribute<'a>);

impl<'a> Parameters<'a> for AttributeValue<'a> {
    fn take_json<M: MapAccess<'a>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error> {
        let attribute = &mut self.0;
        match name {
            "DataType" => attribute.data_type = FromJson::next_value(map)?,
            "StringValue" => attribute.string_value = map.next_value()?,
            "BinaryValue" => attribute.binary_value = binary(map.next_value()?)?,
            "StringListValues" | "BinaryListValues" => {
                let list = map.next_value::<Option<List<IgnoredAny>>>()?;
                attribute.has_list_values |= list.is_some_and(|list| !list.0.is_empty());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_query(&mut self, _: &mut super::query::View<'_, 'a>) -> Result<(), ServiceError> {
        Ok(())
    }

    fn require(&self) -> Result<(), ServiceError> {
        Ok(())
    }
}

fn binary<'a, E: Error>(text: Option<Text<'_>>) -> Result<Option<Cow<'a, [u8]>>, E> {
    let Some(text) = text else { return Ok(None) };
    let bytes = BASE64.decode(text.as_bytes());
    bytes
        .map(|bytes| Some(Cow::Owned(bytes)))
        .map_err(|error| E::custom(format_args!("BinaryValue is not base64: {error}")))
}

fn check_room<E: Error>(members: usize) -> Result<(), E> {
    if members < LIST_MAX {
        return Ok(());
    }
    Err(E::custom(format_args!("a list has more than {LIST_MAX} members")))
}
