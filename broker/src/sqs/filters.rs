//! Which user attributes a receive asks for.

/// Names of attributes that a receive asks for: `All` or `.*` for all of them, `prefix.*` for those that
/// begin with the prefix, anything else for the one of this name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeFilter<'a> {
    all: bool,
    prefixes: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> AttributeFilter<'a> {
    /// The filter that these names make; none of them asks for nothing.
    pub fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut filter = Self::default();
        for name in names {
            match name.strip_suffix(".*") {
                _ if name == "All" => filter.all = true,
                Some("") => filter.all = true,
                Some(prefix) => filter.prefixes.push(prefix),
                None => filter.names.push(name),
            }
        }
        filter
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        !self.all && self.prefixes.is_empty() && self.names.is_empty()
    }

    /// Whether an attribute of this name is asked for.
    pub fn takes(&self, name: &str) -> bool {
        self.all || self.names.contains(&name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_prefixes_and_names_are_told_apart() {
        let names = ["Help.Me", "Hello", "General", "All"];
        let taken = |asked: &[&str]| -> Vec<&str> {
            let filter = AttributeFilter::new(asked.iter().copied());
            names.into_iter().filter(|name| filter.takes(name)).collect()
        };
        for (asked, expected) in [
            (&[][..], &[][..]),
            (&["All"], &names),
            (&[".*"], &names),
            (&["Foo", "Help"], &[]),
            (&["Hello", "General"], &["Hello", "General"]),
            (&["Foo", "Hello"], &["Hello"]),
            (&["Hel.*"], &["Help.Me", "Hello"]),
            (&["Help.*", "General"], &["Help.Me", "General"]),
            (&["hello", "*", ""], &[]),
        ] {
            assert_eq!(taken(asked), expected, "{asked:?}");
        }
    }
}
