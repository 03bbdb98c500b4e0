//! A proxy between client and server that does to requests and answers what a test says: delays, failures, answers that are cut, stalled, reset, or lie about their length.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The header `Range`, if any.
    pub(crate) range: Option<String>,
    /// The header `If-Match`, if any.
    pub(crate) if_match: Option<String>,
    /// Requests before this one.
    pub(crate) nth: u64,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// The server's answer.
    Pass,
    /// This answer, and the server is not asked.
    Answer { status: u16, headers: &'static str, body: Vec<u8> },
    /// The server's answer with other headers in the place of its own of the same names; with none in the place of an empty one.
    Headers(Vec<(&'static str, String)>),
    /// The connection is closed without an answer.
    Close,
    /// The connection is reset without an answer.
    Reset,
    /// So many bytes of the answer's body, and the connection is closed.
    Cut(usize),
    /// So many bytes of the answer's body, and the connection is reset.
    CutReset(usize),
    /// So many bytes of the answer's body, and then silence.
    Stall(usize),
    /// No answer, and silence.
    Silence,
    /// An answer whose length is said to be that of the body it has, but which lacks its last bytes.
    Shorter(usize),
    /// An answer with more bytes than its length says.
    Longer(usize),
}

type Judge = dyn Fn(&Asked) -> (Duration, Fate) + Send + Sync;

struct Shared {
    upstream: u16,
    judge: Box<Judge>,
    count: AtomicU64,
    under_way: AtomicU64,
    most_under_way: AtomicU64,
    asked: Mutex<Vec<Asked>>,
}

/// A proxy that runs as long as this lives.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Proxy {
    /// Before the server at `upstream`; `judge` says how long a request is held, and what becomes of it then.
    pub(crate) fn new(
        upstream: u16,
        judge: impl Fn(&Asked) -> (Duration, Fate) + Send + Sync + 'static,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            upstream,
            judge: Box::new(judge),
            count: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            most_under_way: AtomicU64::new(0),
            asked: Mutex::default(),
        });
        let its = shared.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let its = its.clone();
                tokio::spawn(async move {
                    let _ = serve(client, &its).await;
                });
            }
        });
        Self { port, shared, runtime: Some(runtime) }
    }

    /// Everything that was asked for until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The most requests that were under way at a time.
    pub(crate) fn most_under_way(&self) -> u64 {
        self.shared.most_under_way.load(Ordering::SeqCst)
    }
}

/// Requests of one connection, one after the other, until one of them ends it.
async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut left = Vec::new();
    while let Some(head) = head(&mut client, &mut left).await? {
        let asked = asked(&head, shared.count.fetch_add(1, Ordering::SeqCst));
        let under_way = UnderWay::new(shared);
        shared.asked.lock().unwrap().push(asked.clone());
        let (delay, fate) = (shared.judge)(&asked);
        tokio::time::sleep(delay).await;
        let body = body(&mut client, &mut left, &head).await?;
        if !one(&mut client, under_way, (&head, &body), &asked, fate).await? {
            break;
        }
    }
    Ok(())
}

/// A request that is counted until this is dropped.
struct UnderWay<'s>(&'s Shared);

impl<'s> UnderWay<'s> {
    fn new(shared: &'s Shared) -> Self {
        let now = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_under_way.fetch_max(now, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the connection goes on.
async fn one(
    client: &mut TcpStream,
    under_way: UnderWay<'_>,
    request: (&str, &[u8]),
    asked: &Asked,
    fate: Fate,
) -> std::io::Result<bool> {
    match fate {
        Fate::Close => return Ok(false),
        Fate::Reset => {
            client.set_zero_linger()?;
            return Ok(false);
        }
        Fate::Silence => {
            // Until the client gives up.
            let _ = client.read(&mut [0]).await;
            return Ok(false);
        }
        Fate::Answer { status, headers, body } => {
            drop(under_way);
            let head = format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
            client.write_all(head.as_bytes()).await?;
            client.write_all(&body).await?;
            return Ok(true);
        }
        _ => {}
    }
    let (mut lines, mut body) = fetched(under_way.0.upstream, request).await?;
    let had = body.len();
    let mut goes_on = true;
    match &fate {
        Fate::Headers(headers) => {
            for (name, value) in headers {
                lines.retain(|line| !is_header(line, name));
                if !value.is_empty() {
                    lines.push(format!("{name}: {value}"));
                }
            }
        }
        Fate::Cut(bytes) | Fate::CutReset(bytes) | Fate::Stall(bytes) => {
            body.truncate(*bytes);
            goes_on = false;
        }
        Fate::Shorter(bytes) => {
            body.truncate(had.saturating_sub(*bytes));
            set_length(&mut lines, body.len());
        }
        Fate::Longer(bytes) => {
            body.extend(std::iter::repeat_n(0xa5, *bytes));
            set_length(&mut lines, body.len());
        }
        _ => {}
    }
    if asked.method == "HEAD" {
        body.clear();
    }
    let head = lines.join("\r\n") + "\r\n\r\n";
    // Whoever has the whole answer may ask again before this goes on.
    drop(under_way);
    client.write_all(head.as_bytes()).await?;
    client.write_all(&body).await?;
    match fate {
        Fate::CutReset(_) => client.set_zero_linger()?,
        Fate::Stall(_) => {
            let _ = client.read(&mut [0]).await;
        }
        _ => {}
    }
    Ok(goes_on)
}

/// What the server answers: the lines of its head, and its body.
async fn fetched(upstream: u16, (head, body): (&str, &[u8])) -> std::io::Result<(Vec<String>, Vec<u8>)> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    let mut lines: Vec<&str> = head.split("\r\n").filter(|line| !is_header(line, "connection")).collect();
    lines.push("Connection: close");
    server.write_all((lines.join("\r\n") + "\r\n\r\n").as_bytes()).await?;
    server.write_all(body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let end = find(&answer, b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let lines = head.split("\r\n").filter(|line| !is_header(line, "connection")).map(str::to_owned).collect();
    Ok((lines, answer.get(end + 4..).unwrap_or_default().to_vec()))
}

fn set_length(lines: &mut Vec<String>, bytes: usize) {
    lines.retain(|line| !is_header(line, "content-length"));
    lines.push(format!("Content-Length: {bytes}"));
}

fn is_header(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(its, _)| its.eq_ignore_ascii_case(name))
}

/// The body of a request, as long as its head says.
async fn body(client: &mut TcpStream, left: &mut Vec<u8>, head: &str) -> std::io::Result<Vec<u8>> {
    let line = head.split("\r\n").find(|line| is_header(line, "content-length"));
    let bytes = line.and_then(|line| line.split_once(':')?.1.trim().parse().ok()).unwrap_or(0);
    let mut part = vec![0; 64 << 10];
    while left.len() < bytes {
        let count = client.read(&mut part).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left.extend_from_slice(&part[..count]);
    }
    Ok(left.drain(..bytes).collect())
}

/// The head of the next request, without the empty line.
async fn head(client: &mut TcpStream, left: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    loop {
        if let Some(end) = find(left, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&left[..end]).into_owned();
            left.drain(..end + 4);
            return Ok(Some(head));
        }
        let mut part = [0; 4096];
        let bytes = client.read(&mut part).await?;
        if bytes == 0 {
            return Ok(None);
        }
        left.extend_from_slice(&part[..bytes]);
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn asked(head: &str, nth: u64) -> Asked {
    let mut first = head.split(' ');
    let header = |name: &str| {
        let line = head.split("\r\n").find(|line| is_header(line, name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    Asked {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        range: header("range"),
        if_match: header("if-match"),
        nth,
    }
}
