//! The rules for a message's user attributes.

use tenpin_protocol::{Entries, ErrorCode, UserAttribute};

use super::outputs::Refusal;

/// Attributes of a message; more are refused.
const ATTRIBUTES_MAX: usize = 10;
/// Characters of a name, and of a type with its label.
const NAME_BYTES_MAX: usize = 256;
/// Digits of a number.
const DIGITS_MAX: usize = 38;

/// Checks a message's attributes: their number, names, types and values.
#[cold]
pub(super) fn check_attributes(attributes: Entries<'_, UserAttribute<'_>>) -> Result<(), Refusal> {
    if attributes.len() > ATTRIBUTES_MAX {
        return refuse(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{ATTRIBUTES_MAX}].",
            attributes.len()
        ));
    }
    for (place, attribute) in attributes.iter().enumerate() {
        check_name(attribute.name)?;
        if attributes.iter().take(place).any(|other| other.name == attribute.name) {
            return refuse(format!("Message (user) attribute '{}' is given twice.", attribute.name));
        }
        check_value(&attribute)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
        return refuse(
            "Message (user) attribute names are 1 to 256 of A-Z, a-z, 0-9, underscore, hyphen and period.",
        );
    }
    if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return refuse(format!(
            "Message (user) attribute name '{name}' must not begin or end with a period or have two in a row."
        ));
    }
    let begins_with =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    if begins_with("AWS.") || begins_with("Amazon.") {
        return refuse(format!("Message (user) attribute name '{name}' must not begin with AWS. or Amazon."));
    }
    Ok(())
}

/// What names and labels of types are made of.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn check_value(attribute: &UserAttribute<'_>) -> Result<(), Refusal> {
    let UserAttribute { name, data_type, value } = attribute;
    let (kind, label) =
        data_type.split_once('.').map_or((*data_type, None), |(kind, label)| (kind, Some(label)));
    let is_type = matches!(kind, "String" | "Number" | "Binary");
    let is_label = label.is_none_or(|label| !label.is_empty() && label.bytes().all(is_allowed));
    if !is_type || data_type.len() > NAME_BYTES_MAX || !is_label {
        return refuse(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the following \
             supported type prefixes: Binary, Number, String."
        ));
    }
    if value.is_empty() {
        return refuse(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
        ));
    }
    if kind == "Binary" {
        return Ok(());
    }
    let Ok(text) = std::str::from_utf8(value) else {
        return refuse(format!("The value of message (user) attribute '{name}' is not UTF-8."));
    };
    if kind == "Number" && !is_number(text) {
        return refuse(format!(
            "Can't cast the value of message (user) attribute '{name}' to a number of up to {DIGITS_MAX} digits."
        ));
    }
    Ok(())
}

/// A decimal number with an optional sign, point and exponent, of up to [`DIGITS_MAX`] digits.
fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let unsigned = |text: &str| text.strip_prefix(['+', '-']).unwrap_or(text).len();
    let digits = &mantissa[mantissa.len() - unsigned(mantissa)..];
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let count = whole.len() + fraction.len();
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_exponent = |exponent: &str| {
        let digits = &exponent[exponent.len() - unsigned(exponent)..];
        (1..=3).contains(&digits.len()) && are_digits(digits)
    };
    (1..=DIGITS_MAX).contains(&count)
        && are_digits(whole)
        && are_digits(fraction)
        && exponent.is_none_or(is_exponent)
}

fn refuse(text: impl Into<std::borrow::Cow<'static, str>>) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorCode::InvalidParameterValue, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, data_type: &str, value: &[u8]) -> bool {
        let attributes = [UserAttribute { name, data_type, value }];
        check_attributes(Entries::of(&attributes)).is_ok()
    }

    #[test]
    fn names_types_and_values_are_checked() {
        let long = "n".repeat(257);
        for name in ["", ".a", "a.", "a..b", "a b", "ä", "aws.x", "AMAZON.x", "AWS.x", long.as_str()] {
            assert!(!check(name, "String", b"v"), "{name}");
        }
        for name in ["a", "a.b-c_D9", "AWSome", "amazonas", &long[1..]] {
            assert!(check(name, "String", b"v"), "{name}");
        }
        let labelled = format!("String.{}", "l".repeat(250));
        for data_type in ["", "string", "Strings", "String.", "Float", "String.ä", "String.a b", &labelled] {
            assert!(!check("a", data_type, b"1"), "{data_type}");
        }
        for data_type in
            ["String.json", "Number.int", "Binary.png", "Number.java.lang.Long", &labelled[..256]]
        {
            assert!(check("a", data_type, b"1"), "{data_type}");
        }
        assert!(!check("a", "String", b"") && !check("a", "Binary", b""));
        assert!(!check("a", "String", b"\xff") && check("a", "Binary", b"\xff"));
    }

    #[test]
    fn numbers_have_up_to_38_digits() {
        let most = "9".repeat(38);
        for number in ["0", "-1", "+1.5", ".5", "1e10", "1.5E-128", most.as_str()] {
            assert!(check("a", "Number", number.as_bytes()), "{number}");
        }
        for number in ["", "-", "1.2.3", "0x1", "1e", "e5", " 1", "1_0", &format!("{most}9")] {
            assert!(!check("a", "Number", number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn at_most_ten_with_distinct_names() {
        let names: Vec<String> = (0..11).map(|number| format!("n{number}")).collect();
        let attributes: Vec<_> =
            names.iter().map(|name| UserAttribute { name, data_type: "String", value: b"v" }).collect();
        assert!(check_attributes(Entries::of(&attributes)).is_err());
        assert!(check_attributes(Entries::of(&attributes[..10])).is_ok());
        assert!(check_attributes(Entries::of(&[attributes[0], attributes[0]])).is_err());
    }
}
