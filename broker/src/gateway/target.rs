//! Queue URLs: which queue one names, and what a queue's URL is for a client that came by some host.

use std::cell::RefCell;
use std::rc::Rc;

use hyper::HeaderMap;
use hyper::header::HOST;

use super::identity::{Identity, is_account, is_region};

/// A queue as clients name it. Whether there is one is the shards' to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct QueueName {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) name: String,
}

impl QueueName {
    /// The queue of an ARN; `None` if it is not one of a queue.
    pub(super) fn of_arn(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (scheme, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
        let is_one = scheme == "arn" && service == "sqs" && is_region(region) && is_account(account);
        is_one.then(|| Self { account: account.into(), region: region.into(), name: name.into() })
    }
}

/// How a client came: by which scheme and host its queue URLs begin, and which account and region it means.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// What stands before the path, as in `http://localhost:9324`.
    base: String,
    pub(super) account: Box<str>,
    pub(super) region: Box<str>,
    /// The last URL that was looked at, and its queue: most clients use one for long.
    last: RefCell<Option<(Box<str>, Rc<QueueName>)>>,
}

/// What settings say about queue URLs.
#[derive(Debug, Clone)]
pub(super) struct UrlRules {
    /// What all of them begin with, whatever host clients came by.
    pub(super) public_url: Option<String>,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` are believed.
    pub(super) trusts_forwarded: bool,
    /// Where clients can reach the endpoint that name no host.
    pub(super) listening: std::net::SocketAddr,
    /// The default region.
    pub(super) region: Box<str>,
}

impl Origin {
    pub(super) fn new(headers: &HeaderMap, identity: &Identity, rules: &UrlRules) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let first = |value: &str| value.split(',').next().unwrap_or_default().trim().to_owned();
        let forwarded = |name| text(name).filter(|_| rules.trusts_forwarded).map(first);
        let host = forwarded("x-forwarded-host")
            .or_else(|| text(HOST.as_str()).map(str::to_owned))
            .filter(|host| is_host(host))
            .unwrap_or_else(|| rules.listening.to_string());
        let scheme = forwarded("x-forwarded-proto").filter(|scheme| scheme == "https" || scheme == "http");
        let scheme = scheme.as_deref().unwrap_or("http");
        let region = identity.region.as_deref().or_else(|| region_of_host(&host)).unwrap_or(&rules.region);
        let base = match &rules.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("{scheme}://{host}"),
        };
        Self {
            base: with_region(base, region),
            account: identity.account.clone(),
            region: region.into(),
            last: RefCell::default(),
        }
    }

    /// For what nobody has asked for by HTTP: an account and region by themselves.
    pub(super) fn of_settings(account: &str, region: &str, rules: &UrlRules) -> Self {
        let identity = Identity { account: account.into(), region: Some(region.into()) };
        Self::new(&HeaderMap::new(), &identity, rules)
    }

    /// The URL of a queue.
    pub(super) fn url_of(&self, account: &str, name: &str) -> String {
        format!("{}/{account}/{name}", self.base)
    }

    /// The queue of this name in the client's account and region.
    pub(super) fn own(&self, name: &str) -> QueueName {
        QueueName { account: (*self.account).into(), region: (*self.region).into(), name: name.into() }
    }

    /// The queue that a URL or a path names; `None` if it names none. The account stands in the path, or
    /// is the client's own; the region in the path or the host, or is the client's own.
    pub(super) fn queue_of_url(&self, url: &str) -> Option<Rc<QueueName>> {
        let mut last = self.last.borrow_mut();
        if let Some((known, queue)) = &*last
            && **known == *url
        {
            return Some(Rc::clone(queue));
        }
        let queue = Rc::new(self.parse_url(url)?);
        *last = Some((url.into(), Rc::clone(&queue)));
        Some(queue)
    }

    fn parse_url(&self, url: &str) -> Option<QueueName> {
        let (host, path) = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?,
            None => ("", url.strip_prefix('/').unwrap_or(url)),
        };
        let path = self.behind_base(path.split(['?', '#']).next().unwrap_or_default());
        let mut queue = self.queue_of_path(path)?;
        if let Some(region) = region_of_host(host).filter(|_| !names_region(path)) {
            queue.region = region.into();
        }
        Some(queue)
    }

    /// A path without what stands before the account in the queue URLs that are given out: a proxy may leave it there.
    fn behind_base<'p>(&self, path: &'p str) -> &'p str {
        let first = self.base.splitn(4, '/').nth(3).unwrap_or_default();
        path.strip_prefix(first).filter(|rest| first.is_empty() || rest.starts_with('/')).unwrap_or(path)
    }

    fn queue_of_path(&self, path: &str) -> Option<QueueName> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let own = |name: &str| self.own(name);
        match parts[..] {
            [name] | ["queue", name] => Some(own(name)),
            ["queue", region, account, name] if is_region(region) && is_account(account) => {
                Some(QueueName { account: account.into(), region: region.into(), name: name.into() })
            }
            [account, name] | ["queue", account, name] if is_account(account) => {
                Some(QueueName { account: account.into(), ..own(name) })
            }
            _ => None,
        }
    }
}

fn names_region(path: &str) -> bool {
    path.split('/').filter(|part| !part.is_empty()).count() == 4
}

/// The region in a host like `sqs.eu-west-1.example:9324`, or `eu-west-1.queue.example`.
fn region_of_host(host: &str) -> Option<&str> {
    let mut labels = host.split([':', '/']).next().unwrap_or_default().split('.');
    let (first, second) = (labels.next()?, labels.next()?);
    let region = if first == "sqs" { second } else { Some(first).filter(|_| second == "queue")? };
    // Such as eu-west-1: with hyphens, and a number last.
    let mut parts = region.rsplit('-');
    let has_number = parts.next().is_some_and(|part| part.parse::<u8>().is_ok());
    (has_number && parts.count() >= 2 && is_region(region)).then_some(region)
}

/// What queue URLs begin with, where its host names a region: the queues', as it is the host's that holds when
/// such a URL comes back.
fn with_region(base: String, region: &str) -> String {
    let host = base.split_once("://").map_or("", |(_, host)| host);
    match region_of_host(host) {
        // The first such text is the host's, as no scheme has a hyphen.
        Some(named) if named != region => base.replacen(named, region, 1),
        _ => base,
    }
}

/// Whether a text can stand in a URL as host and port.
fn is_host(host: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (1..=255).contains(&host.len()) && host.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> UrlRules {
        UrlRules {
            public_url: None,
            trusts_forwarded: false,
            listening: ([127, 0, 0, 1], 9324).into(),
            region: "us-east-1".into(),
        }
    }

    fn origin(headers: &[(&'static str, &str)], rules: &UrlRules) -> Origin {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let identity = Identity { account: "000000000000".into(), region: None };
        Origin::new(&headers, &identity, rules)
    }

    #[test]
    fn urls_begin_as_the_client_came() {
        let url = |headers: &[_], rules: &UrlRules| origin(headers, rules).url_of("000000000000", "q");
        assert_eq!(url(&[("host", "broker:9324")], &rules()), "http://broker:9324/000000000000/q");
        assert_eq!(url(&[], &rules()), "http://127.0.0.1:9324/000000000000/q");
        let forwarded =
            [("host", "inner"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "outer, other")];
        assert_eq!(url(&forwarded, &rules()), "http://inner/000000000000/q");
        let trusting = UrlRules { trusts_forwarded: true, ..rules() };
        assert_eq!(url(&forwarded, &trusting), "https://outer/000000000000/q");
        let public = UrlRules { public_url: Some("https://queues.example/".into()), ..rules() };
        assert_eq!(url(&forwarded, &public), "https://queues.example/000000000000/q");
        // What cannot be a host does not get into a URL.
        assert_eq!(url(&[("host", "a/b?c")], &rules()), "http://127.0.0.1:9324/000000000000/q");
    }

    #[test]
    fn every_form_of_a_queue_url_is_understood() {
        let origin = origin(&[("host", "localhost:9324")], &rules());
        for (url, account, region, name) in [
            ("http://localhost:9324/123456789012/q", "123456789012", "us-east-1", "q"),
            (
                "https://sqs.eu-west-1.example.org:9324/123456789012/q.fifo",
                "123456789012",
                "eu-west-1",
                "q.fifo",
            ),
            ("http://eu-west-1.queue.localhost:4566/123456789012/q", "123456789012", "eu-west-1", "q"),
            ("http://localhost:4566/queue/eu-west-1/123456789012/q", "123456789012", "eu-west-1", "q"),
            ("http://queue.localhost:4566/123456789012/q", "123456789012", "us-east-1", "q"),
            ("http://localhost:9324/queue/q", "000000000000", "us-east-1", "q"),
            ("http://localhost:9324/queue/123456789012/q", "123456789012", "us-east-1", "q"),
            ("/123456789012/q", "123456789012", "us-east-1", "q"),
            ("123456789012/q/", "123456789012", "us-east-1", "q"),
            ("q", "000000000000", "us-east-1", "q"),
        ] {
            let expected = QueueName { account: account.into(), region: region.into(), name: name.into() };
            assert_eq!(origin.queue_of_url(url).as_deref(), Some(&expected), "{url}");
        }
        for url in ["", "/", "http://localhost:9324", "http://localhost/a/b", "http://localhost/1/2/3/4/5"] {
            assert_eq!(origin.queue_of_url(url), None, "{url}");
        }
    }

    #[test]
    fn a_public_url_can_have_a_path() {
        let public = UrlRules { public_url: Some("https://queues.example/a/b/".into()), ..rules() };
        let origin = origin(&[], &public);
        let url = origin.url_of("123456789012", "q");
        assert_eq!(url, "https://queues.example/a/b/123456789012/q");
        // As a parameter, and as the path of a request with what a proxy has left of it.
        for url in [&*url, "/a/b/123456789012/q", "/123456789012/q", "http://inner:9324/123456789012/q"] {
            let queue = origin.queue_of_url(url).map(|queue| (queue.account.clone(), queue.name.clone()));
            assert_eq!(queue, Some(("123456789012".into(), "q".into())), "{url}");
        }
        assert_eq!(origin.queue_of_url("/a/bc/123456789012/q"), None);
    }

    #[test]
    fn the_host_can_name_the_region() {
        let region = |host| String::from(origin(&[("host", host)], &rules()).region);
        assert_eq!(region("sqs.ap-southeast-2.amazonaws.com"), "ap-southeast-2");
        assert_eq!(region("sqs.example.com"), "us-east-1");
        assert_eq!(region("sqs"), "us-east-1");
    }

    #[test]
    fn urls_with_a_region_in_the_host_lead_back_to_their_queue() {
        let identity = Identity { account: "000000000000".into(), region: Some("eu-west-1".into()) };
        let came_by = |host: &str, rules: &UrlRules| {
            let headers = [("host".parse().unwrap(), host.parse().unwrap())].into_iter().collect();
            Origin::new(&headers, &identity, rules)
        };
        let public = UrlRules { public_url: Some("https://sqs.us-east-1.example/q".into()), ..rules() };
        for (host, rules, expected) in [
            ("sqs.us-east-1.localhost:4566", &rules(), "http://sqs.eu-west-1.localhost:4566/000000000000/q"),
            ("us-east-1.queue.localhost", &rules(), "http://eu-west-1.queue.localhost/000000000000/q"),
            ("sqs.eu-west-1.localhost", &rules(), "http://sqs.eu-west-1.localhost/000000000000/q"),
            ("sqs.localhost", &rules(), "http://sqs.localhost/000000000000/q"),
            ("localhost", &public, "https://sqs.eu-west-1.example/q/000000000000/q"),
        ] {
            let origin = came_by(host, rules);
            let url = origin.url_of("000000000000", "q");
            assert_eq!(url, expected);
            assert_eq!(*origin.queue_of_url(&url).unwrap(), origin.own("q"), "{url}");
        }
    }

    #[test]
    fn arns_name_queues() {
        let queue = QueueName::of_arn("arn:aws:sqs:eu-west-1:123456789012:q");
        assert_eq!(queue.map(|queue| queue.name).as_deref(), Some("q"));
        for arn in ["", "q", "arn:aws:sns:eu-west-1:123456789012:q", "arn:aws:sqs:eu-west-1:1:q"] {
            assert_eq!(QueueName::of_arn(arn), None, "{arn}");
        }
    }
}
