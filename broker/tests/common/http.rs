//! An HTTP client that sends what it is told to, byte for byte, and reads responses with a length.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// A connection to an HTTP server.
pub struct Http {
    pub stream: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
    /// Headers of all requests, each ended as HTTP wants it.
    pub headers: String,
}

/// A response.
#[derive(Debug, Clone)]
pub struct HttpReply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl HttpReply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }

    /// The body as JSON; an empty one is null.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The first text in the element of this name.
    pub fn element(&self, name: &str) -> Option<String> {
        let (_, behind) = self.body.split_once(&format!("<{name}>"))?;
        let (text, _) = behind.split_once(&format!("</{name}>"))?;
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        Some(text.replace("&#xD;", "\r").replace("&#13;", "\r").replace("&amp;", "&"))
    }
}

impl Http {
    pub fn connect(address: SocketAddr) -> Http {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Http::over(stream, address)
    }

    /// Over a connection to this address that is there already.
    pub fn over(stream: TcpStream, address: SocketAddr) -> Http {
        Http { stream, address, input: Vec::new(), headers: String::new() }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The bytes of a request.
    pub fn request(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let Http { address, headers: always, .. } = self;
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n{always}{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    }

    /// Sends a request of the JSON protocol, without waiting.
    pub fn send_json(&mut self, action: &str, parameters: &Value) {
        let headers =
            format!("x-amz-target: AmazonSQS.{action}\r\ncontent-type: application/x-amz-json-1.0\r\n");
        let bytes = self.request("POST", "/", &headers, parameters.to_string().as_bytes());
        self.write(&bytes);
    }

    pub fn json(&mut self, action: &str, parameters: Value) -> HttpReply {
        self.send_json(action, &parameters);
        self.read()
    }

    /// The same, where it succeeds.
    pub fn json_ok(&mut self, action: &str, parameters: Value) -> Value {
        let reply = self.json(action, parameters);
        assert_eq!(reply.status, 200, "{action}: {reply:?}");
        reply.json()
    }

    /// The same, where it is refused: the error's name, and its text.
    pub fn json_refused(&mut self, action: &str, parameters: Value) -> (String, String) {
        let reply = self.json(action, parameters);
        assert!(reply.status >= 400, "{action}: {reply:?}");
        let json = reply.json();
        let (_, name) = json["__type"].as_str().unwrap().split_once('#').unwrap();
        (name.to_owned(), json["message"].as_str().unwrap().to_owned())
    }

    /// Sends a form of the Query protocol to a path, its values not escaped yet, without waiting.
    pub fn send_query(&mut self, path: &str, action: &str, parameters: &[(&str, &str)]) {
        let mut form = format!("Action={action}&Version=2012-11-05");
        for (name, value) in parameters {
            form += &format!("&{name}={}", escape(value));
        }
        let headers = "content-type: application/x-www-form-urlencoded\r\n";
        let bytes = self.request("POST", path, headers, form.as_bytes());
        self.write(&bytes);
    }

    pub fn query(&mut self, path: &str, action: &str, parameters: &[(&str, &str)]) -> HttpReply {
        self.send_query(path, action, parameters);
        self.read()
    }

    /// The same, where it succeeds.
    pub fn query_ok(&mut self, path: &str, action: &str, parameters: &[(&str, &str)]) -> HttpReply {
        let reply = self.query(path, action, parameters);
        assert_eq!(reply.status, 200, "{action}: {reply:?}");
        assert!(reply.body.contains(&format!("<{action}Response xmlns=")), "{action}: {reply:?}");
        reply
    }

    pub fn get(&mut self, target: &str) -> HttpReply {
        let bytes = self.request("GET", target, "", b"");
        self.write(&bytes);
        self.read()
    }

    /// The next response, which must come.
    pub fn read(&mut self) -> HttpReply {
        self.try_read().expect("a response comes before the end")
    }

    /// The next response; `None` where the connection ends without one.
    pub fn try_read(&mut self) -> Option<HttpReply> {
        let head_length = loop {
            if let Some(place) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break place + 4;
            }
            if !self.fill() {
                assert!(self.input.is_empty(), "it ends inside a response");
                return None;
            }
        };
        let head: Vec<u8> = self.input.drain(..head_length).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        while self.input.len() < length {
            assert!(self.fill(), "it ends inside a body");
        }
        let body = String::from_utf8(self.input.drain(..length).collect()).unwrap();
        Some(HttpReply { status, headers, body })
    }

    /// Reads what has come; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                count > 0
            }
            // A thread that shares its process with a broker's rings is interrupted now and then.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Expects that the server has ended the connection.
    pub fn expect_end(&mut self) {
        assert!(self.try_read().is_none(), "the connection ends");
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
