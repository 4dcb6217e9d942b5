//! Who asks, and for which account and region.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

/// Who a request comes from, as far as that is known.
///
/// Signatures are not checked yet: it is what the client claims. Checking them will make this type the
/// result of the check, and everything behind it already takes what it needs from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Twelve digits: the access key id where it has that form, else the default.
    pub(super) account: Box<str>,
    /// The region of the credential scope, where it has one.
    pub(super) region: Option<Box<str>>,
}

impl Identity {
    /// The scope of the request's credentials: of those of the `Authorization` header, or of the parameter
    /// `X-Amz-Credential` of a signed URL. Empty where there is none.
    pub(super) fn scope<'r>(headers: &'r HeaderMap, query: Option<&'r str>) -> &'r str {
        let in_header = headers.get(AUTHORIZATION).and_then(|value| credential(value.as_bytes()));
        let in_query = || {
            let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(name, _)| *name == "X-Amz-Credential").map(|(_, value)| value.as_bytes()).next()
        };
        let text = in_header.or_else(in_query).unwrap_or_default();
        let end = text.iter().position(|byte| b", &".contains(byte)).unwrap_or(text.len());
        std::str::from_utf8(&text[..end]).unwrap_or_default()
    }

    /// What a scope claims: `KEY/DATE/REGION/sqs/aws4_request`, with slashes as they are or escaped.
    pub(super) fn claimed(scope: &str, account_default: &str) -> Self {
        let unescaped = scope.replace("%2F", "/").replace("%2f", "/");
        let mut parts = unescaped.split('/');
        let key = parts.next().unwrap_or_default();
        let region = parts.nth(1).filter(|region| is_region(region)).map(Into::into);
        let account = if is_account(key) { key } else { account_default };
        Self { account: account.into(), region }
    }
}

/// What stands behind the first `Credential=`.
fn credential(header: &[u8]) -> Option<&[u8]> {
    const FIELD: &[u8] = b"Credential=";
    // Where it stands in what every SDK sends.
    if let Some(rest) = header.strip_prefix(b"AWS4-HMAC-SHA256 Credential=") {
        return Some(rest);
    }
    let place = header.windows(FIELD.len()).position(|bytes| bytes == FIELD)?;
    Some(&header[place + FIELD.len()..])
}

/// Whether a text has the form of an account.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text has the form of a region.
pub(super) fn is_region(text: &str) -> bool {
    let is_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_region)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(header: Option<&str>, query: Option<&str>) -> (String, Option<String>) {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().expect("a header's value"));
        }
        let identity = Identity::claimed(Identity::scope(&headers, query), "000000000000");
        (identity.account.into(), identity.region.map(Into::into))
    }

    #[test]
    fn account_and_region_come_from_the_credential_scope() {
        let default = ("000000000000".to_owned(), None);
        let here = |account: &str, region: &str| (account.to_owned(), Some(region.to_owned()));
        let scope = |key: &str| {
            let text = format!(
                "AWS4-HMAC-SHA256 Credential={key}/20261128/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
            );
            claimed(Some(&text), None)
        };
        assert_eq!(scope("AKIDEXAMPLE"), here("000000000000", "eu-west-1"));
        assert_eq!(scope("123456789012"), here("123456789012", "eu-west-1"));
        let query =
            "Action=ListQueues&X-Amz-Credential=123456789012%2F20261128%2Fus-west-2%2Fsqs%2Faws4_request";
        assert_eq!(claimed(None, Some(query)), here("123456789012", "us-west-2"));
        for header in [None, Some("Bearer x"), Some("AWS4-HMAC-SHA256 Credential="), Some("Credential=a/b")] {
            assert_eq!(claimed(header, None), default, "{header:?}");
        }
        // What cannot be a region is none.
        let strange = claimed(Some("Credential=x/20261128/../etc/sqs"), None);
        assert_eq!(strange, default);
    }
}
