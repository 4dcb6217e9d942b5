//! One HTTP request: which protocol it speaks, what it asks for, and the response that it gets.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use hyper::{Method, Request, Response, StatusCode};

use super::call::Call;
use super::health;
use super::identity::Identity;
use super::link::{Answer, Line};
use super::prepared::delete_queues;
use super::server::{Client, HeldBytes};
use super::socket::{Owed, ReplyBody};
use super::target::{Origin, QueueName};
use crate::sqs::{Action, ErrorName, Reply, ServiceError, json, json_out, query, uuid, xml};

/// Headers of ours.
static TARGET: HeaderName = HeaderName::from_static("x-amz-target");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// How many times its bytes a body that comes in parts has room for at most.
const BODY_GROWTH: usize = 4;

/// Room for headers that a connection keeps from one request to the next: more than SDKs send.
const HEADERS_KEPT_MAX: usize = 48;

/// How a client came with a request.
pub(super) struct Came {
    scope: Box<str>,
    host: Option<HeaderValue>,
    origin: Rc<Origin>,
}

/// How a response looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The JSON protocol.
    Json,
    /// The Query protocol.
    Xml,
    /// The Query protocol, for clients that would rather have JSON.
    QueryJson,
}

/// What a client is answered, before it is an HTTP response.
struct Answered {
    format: Format,
    result: Result<Vec<u8>, ServiceError>,
    owed: Option<Answer>,
    /// Whether the connection must end, as not all of the request was read.
    ends_connection: bool,
    /// The request's headers, emptied: hyper keeps the room of a response's for the next request's.
    headers: HeaderMap,
}

/// Serves a request. Whatever is wrong with it becomes a response.
pub(super) async fn serve(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    match (request.method(), request.uri().path(), request.uri().query()) {
        (&Method::GET | &Method::HEAD, "/health", None) => {
            let (status, text) = Box::pin(health::look(&client.gateway.link)).await;
            let text = if request.method() == Method::HEAD { Vec::new() } else { text };
            return Ok(plain(&client, status, text));
        }
        (&Method::POST, "/reset", None) if client.gateway.options.can_reset => {
            return Ok(Box::pin(reset(&client, request.headers())).await);
        }
        _ => {}
    }
    let id = RequestId::new(&client);
    let Answered { format, result, owed, ends_connection, headers } = answer(&client, request, &id).await;
    let mut response = match result {
        Ok(body) => {
            let mut response = Response::new(ReplyBody::new(body, &client.owed));
            *response.headers_mut() = headers;
            response
        }
        Err(error) => refusal(&client, format, &error, &id),
    };
    if let Some(answer) = owed {
        client.owed.owe(answer);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(format)));
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(id.0)) {
        headers.insert(&REQUEST_ID, value);
    }
    if ends_connection {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// A response in JSON to what is no action of the API.
fn plain(client: &Client, status: StatusCode, text: Vec<u8>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::new(text, &client.owed));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Deletes all queues of the account and region that the client means.
async fn reset(client: &Client, headers: &HeaderMap) -> Response<ReplyBody> {
    let gateway = &client.gateway;
    let origin = origin_of(client, headers, None);
    match delete_queues(gateway, &origin).await {
        Ok(count) => plain(client, StatusCode::OK, format!("{{\"deleted_queues\":{count}}}").into_bytes()),
        Err(error) => {
            let mut text = Vec::new();
            json_out::write_error(&error, &mut text);
            plain(client, StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => json_out::CONTENT_TYPE,
        Format::Xml => xml::CONTENT_TYPE,
        Format::QueryJson => json_out::QUERY_CONTENT_TYPE,
    }
}

fn refusal(client: &Client, format: Format, error: &ServiceError, id: &RequestId) -> Response<ReplyBody> {
    let mut body = Vec::new();
    match format {
        Format::Json => json_out::write_error(error, &mut body),
        Format::Xml => xml::write_error(error, &id.0, &mut body),
        Format::QueryJson => json_out::write_query_error(error, &id.0, &mut body),
    }
    let mut response = Response::new(ReplyBody::new(body, &client.owed));
    let status = StatusCode::from_u16(error.name.status());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if format == Format::Json
        && let Ok(value) = HeaderValue::from_str(&json_out::query_error_header(error))
    {
        response.headers_mut().insert(json_out::QUERY_ERROR_HEADER, value);
    }
    response
}

async fn answer(client: &Client, request: Request<Incoming>, id: &RequestId) -> Answered {
    let (mut head, body) = request.into_parts();
    let target = head.headers.get(&TARGET).map(|target| target.to_str().unwrap_or_default());
    let format = format_of(&head.headers, target);
    let refused = |error, ends_connection| {
        let (result, headers) = (Err(error), HeaderMap::new());
        Answered { format, result, owed: None, ends_connection, headers }
    };
    if head.method != Method::POST && (head.method != Method::GET || format == Format::Json) {
        let text = format!("The method {} is not served here.", head.method);
        return refused(ServiceError::new(ErrorName::MethodNotAllowed, text), true);
    }
    // A length beside chunks could be another request to a proxy before us. hyper does not show one that comes
    // behind, so nothing that follows chunks is served.
    let has_chunks = head.headers.contains_key(TRANSFER_ENCODING);
    if has_chunks && head.headers.contains_key(CONTENT_LENGTH) {
        let text = "The request says the length of its body in two ways.";
        return refused(ServiceError::new(ErrorName::MalformedInput, text), true);
    }
    let gateway = &client.gateway;
    let mut held = gateway.body_bytes.hold();
    let body = match read_body(client, body, &mut held).await {
        Ok(body) => body,
        Err(error) => return refused(error, true),
    };
    let origin = origin_of(client, &head.headers, head.uri.query());
    let path = head.uri.path();
    let queue_of_path = if path.len() > 1 { origin.queue_of_url(path) } else { None };
    let parsed = match format {
        Format::Json => json::parse(target.unwrap_or_default(), &body),
        Format::Xml | Format::QueryJson => {
            query::parse(head.uri.query().unwrap_or_default(), &body, queue_of_path.is_some())
        }
    };
    let action = match parsed {
        Ok(action) => action,
        Err(error) => return refused(error, has_chunks),
    };
    let (result, owed) = call(client, &action, format, id, &origin, queue_of_path).await;
    let mut headers = std::mem::take(&mut head.headers);
    headers.clear();
    if headers.capacity() > HEADERS_KEPT_MAX {
        headers = HeaderMap::new();
    }
    Answered { format, result, owed, ends_connection: has_chunks, headers }
}

/// How the client came: as before, where the headers that say so are those of before.
fn origin_of(client: &Client, headers: &HeaderMap, query: Option<&str>) -> Rc<Origin> {
    let gateway = &client.gateway;
    let (scope, host) = (Identity::scope(headers, query), headers.get(HOST));
    let mut came = client.came.borrow_mut();
    if let Some(came) = &*came
        && !gateway.rules.trusts_forwarded
        && *came.scope == *scope
        && came.host.as_ref() == host
    {
        return Rc::clone(&came.origin);
    }
    let identity = Identity::claimed(scope, &gateway.options.account);
    let origin = Rc::new(Origin::new(headers, &identity, &gateway.rules));
    *came = Some(Came { scope: scope.into(), host: host.cloned(), origin: Rc::clone(&origin) });
    origin
}

async fn call(
    client: &Client,
    action: &Action<'_>,
    format: Format,
    id: &RequestId,
    origin: &Origin,
    queue_of_path: Option<Rc<QueueName>>,
) -> (Result<Vec<u8>, ServiceError>, Option<Answer>) {
    // Where this request is dropped on its way, its line goes with it, and what it waits for.
    let line = client.line.borrow_mut().take();
    let mut line = line.unwrap_or_else(|| Line::new(&client.gateway.link));
    let print = |reply: &Reply<'_>, out: &mut Vec<u8>| match format {
        Format::Json => json_out::write_reply(reply, out),
        Format::Xml => xml::write_reply(reply, &id.0, out),
        Format::QueryJson => json_out::write_query_reply(reply, &id.0, out),
    };
    let mut call = Call {
        queues: &client.gateway.queues,
        client: Some(&client.owed),
        line: &mut line,
        origin,
        queue_of_path,
        print: &print,
        out: Vec::new(),
        owed: None,
    };
    let result = call.serve(action).await;
    let Call { out, owed, .. } = call;
    *client.line.borrow_mut() = Some(line);
    (result.map(|()| out), owed)
}

fn format_of(headers: &HeaderMap, target: Option<&str>) -> Format {
    let has = |name, text: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(text))
    };
    match target {
        Some(_) => Format::Json,
        None if has(CONTENT_TYPE, "x-amz-json") => Format::Json,
        None if has(ACCEPT, "application/json") => Format::QueryJson,
        None => Format::Xml,
    }
}

/// Reads a body whole, within its bounds of length and time.
async fn read_body(client: &Client, body: Incoming, held: &mut HeldBytes<'_>) -> Result<Bytes, ServiceError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut read = pin!(read_parts(client, body, held));
    // Mostly it has come with the head, and needs no timer.
    if let Poll::Ready(body) = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
        return body;
    }
    tokio::time::timeout(client.gateway.options.body_timeout, read).await.unwrap_or_else(|_| {
        Err(ServiceError::new(ErrorName::RequestTimeout, "The request's body did not come in time."))
    })
}

async fn read_parts(
    client: &Client,
    mut body: Incoming,
    held: &mut HeldBytes<'_>,
) -> Result<Bytes, ServiceError> {
    let gateway = &client.gateway;
    let bytes_max = gateway.options.body_bytes_max;
    let stated = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let too_long = || {
        let text = format!("The request's body is longer than {bytes_max} bytes.");
        ServiceError::new(ErrorName::RequestEntityTooLarge, text)
    };
    if stated.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_long());
    }
    let mut all = Vec::new();
    while let Some(part) = poll_fn(|context| poll_part(&mut body, &client.owed, context)).await {
        // What is no data are trailers, which mean nothing here.
        let Ok(data) = part?.into_data() else { continue };
        if all.len() + data.len() > bytes_max {
            return Err(too_long());
        }
        if !gateway.body_bytes.take(held, data.len()) {
            let text = "Too many requests are on their way; send it again later.";
            return Err(ServiceError::new(ErrorName::ServiceUnavailable, text));
        }
        if all.is_empty() && stated == Some(data.len()) {
            return Ok(data);
        }
        let here = all.len() + data.len();
        if all.capacity() < here {
            all.reserve_exact(room_for(here, stated) - all.len());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

/// For how many bytes of a body there is to be room when so many are here: not for all that it is stated to have,
/// of which nothing more may ever come.
fn room_for(here: usize, stated: Option<usize>) -> usize {
    let ahead = here.saturating_mul(BODY_GROWTH);
    stated.map_or(ahead, |stated| ahead.min(stated)).max(here)
}

/// The next part of a body. Where the client has ended, none comes that is not here.
fn poll_part(
    body: &mut Incoming,
    owed: &Owed,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, ServiceError>>> {
    let broken = || ServiceError::new(ErrorName::MalformedInput, "The request's body is broken off.");
    match Pin::new(body).poll_frame(context) {
        Poll::Pending if owed.has_ended() => Poll::Ready(Some(Err(broken()))),
        part => part.map(|part| part.map(|part| part.map_err(|_| broken()))),
    }
}

/// A request's id, by which it is known in responses. It means nothing.
struct RequestId(String);

impl RequestId {
    fn new(client: &Client) -> Self {
        let id = client.gateway.request_ids.next();
        // Digits and hyphens are a text.
        Self(String::from_utf8(uuid(&id).into()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_room_by_what_is_here_of_it() {
        let stated = Some(4 << 20);
        assert_eq!(room_for(1, stated), BODY_GROWTH);
        assert_eq!(room_for(64 << 10, stated), BODY_GROWTH * (64 << 10));
        assert_eq!(room_for(3 << 20, stated), 4 << 20);
        assert_eq!(room_for(4 << 20, stated), 4 << 20);
        assert_eq!(room_for(100, None), BODY_GROWTH * 100);
    }
}
