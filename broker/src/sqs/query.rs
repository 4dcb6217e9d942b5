//! The Query protocol: parameters as `Name=value`, percent-encoded, in the URL of a GET or the form of a POST.
//!
//! A list is `Name.1`, `Name.2` …, a structure in it `Name.1.Field`, a map `Name.1.Name` with `Name.1.Value`.
//! Clients of other ages write the same in other ways, which are understood too: `Name.member.1` for lists,
//! `Name.entry.1` for maps, `key` and `value`, and `Name.Name` with `Name.Value`, or `Name` alone, where there
//! is one member only. Numbers need not begin with 1 nor be without gaps; they say the order.
//!
//! Any `Version` is taken for 2012-11-05, and what is unknown is passed over, as are the parameters
//! that signatures add. Bound: [`PARAMETERS_MAX`].

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use tenpin_protocol::ErrorCode;

use super::actions::{
    Action, ActionName, ChangeVisibilityEntry, DeleteEntry, MessageAttribute, Pair, SendEntry,
};
use super::error::{ErrorName, ServiceError};
use super::json::BASE64;
use super::parameters::{Parameters, for_each_action};
use super::text::Text;

/// Most parameters of a request. The largest that means something is a batch with all attributes that
/// messages can have, which is about 500.
pub const PARAMETERS_MAX: usize = 2_000;

/// Reads a request: what stands behind the `?` of its URL, and its body where that is a form.
/// `on_queue_url`: whether its path names a queue.
pub fn parse<'a>(url_query: &'a str, form: &'a [u8], on_queue_url: bool) -> Result<Action<'a>, ServiceError> {
    let mut parameters = Vec::new();
    read_form(form, &mut parameters)?;
    read_form(url_query.as_bytes(), &mut parameters)?;
    // Stable: of two with the same name the first one counts.
    parameters.sort_by(|one, other| one.name.cmp(&other.name));
    let mut view = View { parameters: &mut parameters, skip: 0 };
    let Some(name) = view.text("Action").filter(|name| !name.is_empty()) else {
        return Err(match on_queue_url {
            true => ServiceError::new(ErrorName::NoOperation, "There is no Action in the request."),
            false => {
                ServiceError::new(ErrorName::MissingAction, "The request must contain the parameter Action.")
            }
        });
    };
    let is_valid = |action: &ActionName| {
        !(on_queue_url && matches!(action, ActionName::CreateQueue | ActionName::ListQueues))
    };
    let action = ActionName::parse(&name).filter(is_valid).ok_or_else(|| {
        let text = format!("The action {name} is not valid for this endpoint.");
        ServiceError::new(ErrorName::InvalidAction, text)
    })?;
    let action = for_each_action!(action, read(&mut view))?;
    action.check()?;
    Ok(action)
}

fn read<'a, P: Parameters<'a>>(view: &mut View<'_, 'a>) -> Result<P, ServiceError> {
    let mut parameters = P::default();
    parameters.take_query(view)?;
    parameters.require()?;
    Ok(parameters)
}

struct Parameter<'a> {
    name: Cow<'a, str>,
    /// Taken out when it is read.
    value: Cow<'a, str>,
}

fn read_form<'a>(form: &'a [u8], parameters: &mut Vec<Parameter<'a>>) -> Result<(), ServiceError> {
    for piece in form.split(|&byte| byte == b'&').filter(|piece| !piece.is_empty()) {
        if parameters.len() == PARAMETERS_MAX {
            let text = format!("The request has more than {PARAMETERS_MAX} parameters.");
            return Err(ServiceError::new(ErrorName::MalformedInput, text));
        }
        let (name, value) = match piece.iter().position(|&byte| byte == b'=') {
            Some(place) => (&piece[..place], &piece[place + 1..]),
            None => (piece, &b""[..]),
        };
        parameters.push(Parameter { name: decode(name)?, value: decode(value)? });
    }
    Ok(())
}

/// Undoes the encoding of forms: `+` is a space, `%` and two digits a byte.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ServiceError> {
    let refuse = |text: &'static str| ServiceError::new(ErrorName::MalformedInput, text);
    let not_text = |_| refuse("A parameter is not UTF-8.");
    if !bytes.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(not_text);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match (byte, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) => {
                rest = behind;
                let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
                match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(refuse("A % in a parameter is not followed by two hexadecimal digits.")),
                }
            }
            (b'%', _) => return Err(refuse("A % in a parameter is not followed by two hexadecimal digits.")),
            (other, _) => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|error| not_text(error.utf8_error()))
}

/// Some of a request's parameters, sorted by name: those that begin with the same `skip` bytes, which are
/// left out.
pub(super) struct View<'v, 'a> {
    parameters: &'v mut [Parameter<'a>],
    skip: usize,
}

impl<'v, 'a> View<'v, 'a> {
    /// The value of this parameter.
    fn text(&mut self, name: &str) -> Option<Text<'a>> {
        let skip = self.skip;
        let place = self.parameters.partition_point(|parameter| &parameter.name[skip..] < name);
        let parameter = self.parameters.get_mut(place).filter(|parameter| &parameter.name[skip..] == name)?;
        Some(Text(std::mem::take(&mut parameter.value)))
    }

    /// Where those are whose names begin with this name and a dot.
    fn range_under(&self, name: &str) -> Range<usize> {
        let order = |parameter: &Parameter<'_>, last: u8| {
            parameter.name.as_bytes()[self.skip..].iter().cmp(name.as_bytes().iter().chain([&last]))
        };
        // The byte after a dot is a slash: what is sorted between the two begins with a dot.
        let from = self.parameters.partition_point(|parameter| order(parameter, b'.').is_lt());
        let to = self.parameters.partition_point(|parameter| order(parameter, b'/').is_lt());
        from..to
    }

    fn under(&mut self, name: &str) -> View<'_, 'a> {
        let range = self.range_under(name);
        View { parameters: &mut self.parameters[range], skip: self.skip + name.len() + 1 }
    }

    /// Without the word that some clients write between a list's name and its numbers.
    fn without_word(self) -> Self {
        let word = ["member", "entry"].into_iter().find(|word| !self.range_under(word).is_empty());
        let Some(word) = word else { return self };
        let range = self.range_under(word);
        Self { parameters: &mut self.parameters[range], skip: self.skip + word.len() + 1 }
    }

    /// The members of this list in the order of their numbers. What has no number is a member, too.
    fn members(self) -> Vec<View<'v, 'a>> {
        let View { parameters: mut rest, skip } = self.without_word();
        let number = |parameter: &Parameter<'_>| number_of(&parameter.name[skip..]);
        let mut members = Vec::new();
        while let Some(first) = rest.first() {
            let which = number(first);
            let end = rest.iter().position(|parameter| number(parameter) != which);
            let (parameters, behind) = rest.split_at_mut(end.unwrap_or(rest.len()));
            rest = behind;
            let (number, digits) = which.unwrap_or((0, 0));
            members.push((number, View { parameters, skip: skip + digits }));
        }
        members.sort_by_key(|&(number, _)| number);
        members.into_iter().map(|(_, member)| member).collect()
    }
}

/// The number that a name begins with, and how many bytes it takes, with its dot if there is one.
fn number_of(name: &str) -> Option<(u32, usize)> {
    let digits = name.split_once('.').map_or(name, |(digits, _)| digits);
    let number = digits.parse().ok()?;
    Some((number, name.len().min(digits.len() + 1)))
}

/// A value of a parameter.
pub(super) trait FromQuery<'a>: Sized {
    /// Takes the parameter of this name, and those under it.
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError>;
}

impl<'a> FromQuery<'a> for Text<'a> {
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
        Ok(view.text(name).unwrap_or_default())
    }
}

impl<'a> FromQuery<'a> for Option<Text<'a>> {
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
        Ok(view.text(name))
    }
}

impl<'a> FromQuery<'a> for Option<i64> {
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
        let Some(text) = view.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| ServiceError::invalid(&text, name, "Must be an integer."))
    }
}

impl<'a> FromQuery<'a> for Vec<Text<'a>> {
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
        // A name without a number is a list of one, or, where it has no value, an empty one.
        if let Some(text) = view.text(name) {
            return Ok(Some(text).filter(|text| !text.is_empty()).into_iter().collect());
        }
        Ok(view.under(name).members().iter_mut().filter_map(|member| member.text("")).collect())
    }
}

impl<'a> FromQuery<'a> for Vec<Pair<'a>> {
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
        let members = view.under(name).members();
        let pair = |mut member: View<'_, 'a>| {
            let keys = ["Name", "Key", "key", "name"];
            let name = keys.into_iter().find_map(|key| member.text(key)).unwrap_or_default();
            let value = ["Value", "value"].into_iter().find_map(|key| member.text(key)).unwrap_or_default();
            Pair { name, value }
        };
        Ok(members.into_iter().map(pair).collect())
    }
}

impl<'a> FromQuery<'a> for Vec<MessageAttribute<'a>> {
    fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
        view.under(name).members().into_iter().map(attribute).collect()
    }
}

fn attribute<'a>(mut member: View<'_, 'a>) -> Result<MessageAttribute<'a>, ServiceError> {
    let name = ["Name", "key"].into_iter().find_map(|key| member.text(key)).unwrap_or_default();
    let word = if member.range_under("Value").is_empty() { "value" } else { "Value" };
    let mut value = member.under(word);
    let binary_value = match value.text("BinaryValue") {
        Some(text) => Some(Cow::Owned(BASE64.decode(text.as_bytes()).map_err(|error| {
            let text = format!("The BinaryValue of message attribute '{name}' is not base64: {error}.");
            ServiceError::new(ErrorCode::InvalidParameterValue, text)
        })?)),
        None => None,
    };
    let mut is_list = |list: &str| !value.range_under(list).is_empty() || value.text(list).is_some();
    let lists = ["StringListValue", "StringListValues", "BinaryListValue", "BinaryListValues"];
    let has_list_values = lists.into_iter().any(&mut is_list);
    let (data_type, string_value) = (value.text("DataType").unwrap_or_default(), value.text("StringValue"));
    Ok(MessageAttribute { name, data_type, string_value, binary_value, has_list_values })
}

macro_rules! structures {
    ($($type:ident)*) => {$(
        impl<'a> FromQuery<'a> for Vec<$type<'a>> {
            fn take(view: &mut View<'_, 'a>, name: &str) -> Result<Self, ServiceError> {
                let take = |mut member: View<'_, 'a>| {
                    let mut parameters = $type::default();
                    parameters.take_query(&mut member).map(|()| parameters)
                };
                view.under(name).members().into_iter().map(take).collect()
            }
        }
    )*};
}

structures! { SendEntry DeleteEntry ChangeVisibilityEntry }
