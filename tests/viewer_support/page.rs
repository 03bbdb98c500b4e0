//! Owns [`Page`]: what the viewer's page does, without a browser. It asks for views, and takes pictures with what is said of them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::Served;

/// What came with a picture, and the picture: JPEG, PNG or nothing.
pub(crate) struct Told {
    pub(crate) status: Value,
    pub(crate) picture: Vec<u8>,
}

pub(crate) struct Page {
    socket: WebSocket<TcpStream>,
    pub(crate) hello: Value,
}

impl Page {
    pub(crate) fn of(served: &Served) -> Self {
        let stream = TcpStream::connect(&served.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let url = format!("ws://{}/socket", served.address);
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        let hello = socket.read().unwrap();
        let hello = serde_json::from_str(hello.to_text().unwrap()).unwrap();
        Self { socket, hello }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// Asks for a small picture, with these changes to the usual view.
    pub(crate) fn view(&mut self, changes: &Value) {
        let mut view = json!({ "width": 160, "height": 120 });
        for (name, value) in changes.as_object().unwrap() {
            view[name] = value.clone();
        }
        self.send(&json!({ "view": view }));
    }

    /// The next message, acknowledged as shown. Its error is the reason where the viewer closes the connection.
    pub(crate) fn next(&mut self) -> Result<Told, String> {
        loop {
            let message = match self.socket.read() {
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => {
                    continue;
                }
                message => message.map_err(|error| error.to_string())?,
            };
            match message {
                Message::Binary(bytes) => {
                    let (length, rest) = bytes.split_at(4);
                    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
                    let status: Value = serde_json::from_slice(&rest[..length]).unwrap();
                    self.send(&json!({ "shown": status["number"] }));
                    return Ok(Told { status, picture: rest[length..].to_vec() });
                }
                Message::Close(frame) => {
                    return Err(frame.map_or(String::new(), |frame| frame.reason.to_string()));
                }
                _ => {}
            }
        }
    }

    /// Takes messages until one is as wanted.
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&Told) -> bool) -> Told {
        let begun = Instant::now();
        let mut last = Value::Null;
        while begun.elapsed() < Duration::from_mins(1) {
            let told = self.next().unwrap_or_else(|reason| panic!("{what}: closed: {reason}"));
            if wanted(&told) {
                return told;
            }
            last = told.status;
        }
        panic!("{what}: not within a minute, but {last}");
    }

    /// Takes messages until waiting gives no better picture.
    pub(crate) fn settled(&mut self) -> Told {
        self.until("converged", |told| told.status["state"] == "converged")
    }
}
