//! The rules for a queue's tags.

use tenpin_protocol::{Entries, ErrorCode, Tag, Text};

use super::details::Tags;
use super::error::AttributeError;

/// Tags of a queue; one more is refused.
const TAGS_MAX: usize = 50;
/// Characters of a key.
const KEY_CHARACTERS_MAX: usize = 128;
/// Characters of a value.
const VALUE_CHARACTERS_MAX: usize = 256;
/// What keys must not begin with, in any case.
const RESERVED_PREFIX: &str = "aws:";

/// Adds tags or gives them other values: all, or none where one is refused.
pub fn set_tags<'a>(tags: &Tags, given: Entries<'a, Tag<'a>>) -> Result<Tags, AttributeError> {
    let mut tags = tags.clone();
    for tag in given {
        check(&tag)?;
        tags.insert(tag.key.into(), tag.value.into());
        // Also bounds what is held while a long list is taken.
        if tags.len() > TAGS_MAX {
            let text = format!("Too many tags added for queue. A queue may have {TAGS_MAX}.");
            return Err(AttributeError::new(ErrorCode::InvalidParameterValue, text));
        }
    }
    Ok(tags)
}

/// Takes tags away; a key that no tag has asks for nothing.
pub fn remove_tags<'a>(tags: &Tags, keys: Entries<'a, Text<'a>>) -> Tags {
    let mut tags = tags.clone();
    for key in keys {
        tags.remove(key.text);
    }
    tags
}

fn check(tag: &Tag<'_>) -> Result<(), AttributeError> {
    let refuse = |text: String| Err(AttributeError::new(ErrorCode::InvalidParameterValue, text));
    if !(1..=KEY_CHARACTERS_MAX).contains(&tag.key.chars().count()) {
        return refuse(format!("Tag keys must be between 1 and {KEY_CHARACTERS_MAX} characters in length."));
    }
    if tag.value.chars().count() > VALUE_CHARACTERS_MAX {
        return refuse(format!(
            "Tag values must be between 0 and {VALUE_CHARACTERS_MAX} characters in length."
        ));
    }
    let begins = tag.key.get(..RESERVED_PREFIX.len());
    if begins.is_some_and(|begins| begins.eq_ignore_ascii_case(RESERVED_PREFIX)) {
        return refuse(format!("Tag keys must not begin with {RESERVED_PREFIX}, which is reserved."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tags: &Tags, given: &[(&str, &str)]) -> Result<Tags, AttributeError> {
        let given: Vec<_> = given.iter().map(|&(key, value)| Tag { key, value }).collect();
        set_tags(tags, Entries::of(&given))
    }

    #[test]
    fn keys_and_values_are_checked() {
        let none = Tags::new();
        let (key, value) = ("ä".repeat(128), "ä".repeat(256));
        assert!(tagged(&none, &[(&key, &value), ("k", ""), ("awsome", "x"), ("a", "aws:x")]).is_ok());
        for (key, value, text) in [
            ("", "x", "Tag keys must be between 1 and 128 characters in length."),
            (&"k".repeat(129), "x", "Tag keys must be between 1 and 128 characters in length."),
            ("k", &"v".repeat(257), "Tag values must be between 0 and 256 characters in length."),
            ("aws:k", "x", "Tag keys must not begin with aws:, which is reserved."),
            ("AWS:k", "x", "Tag keys must not begin with aws:, which is reserved."),
        ] {
            let error = tagged(&none, &[("good", "x"), (key, value)]).expect_err(key);
            assert_eq!((error.code, &*error.text), (ErrorCode::InvalidParameterValue, text));
        }
    }

    #[test]
    fn there_are_at_most_fifty() {
        let keys: Vec<_> = (0..51).map(|number| number.to_string()).collect();
        let given: Vec<_> = keys.iter().map(|key| (key.as_str(), "x")).collect();
        let full = tagged(&Tags::new(), &given[..50]).expect("fifty");
        assert!(tagged(&full, &given[50..]).expect_err("one more").text.contains("50"));
        let other = tagged(&full, &[("7", "y")]).expect("another value for one that there is");
        assert_eq!((other.len(), &*other["7"]), (50, "y"));
        let fewer = remove_tags(&other, Entries::of(&[Text { text: "7" }, Text { text: "none" }]));
        assert_eq!(fewer.len(), 49);
    }
}
