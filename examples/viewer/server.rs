//! Owns the page and its socket. Believes nothing that comes in: only pages from this machine may connect, and every message is checked.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use vastgrid::{ExploredTile, Scalar};

use crate::Failure;
use crate::args::Args;
use crate::eye::Eye;
use crate::mailbox::Mailbox;
use crate::overlay::Overlay;
use crate::recordings::Recordings;
use crate::scene::Scene;
use crate::session;
use crate::status;
use crate::view::View;

/// The page and its parts: path, type, text.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/controls.js", "text/javascript; charset=utf-8", include_str!("page/controls.js")),
    ("/overlay.js", "text/javascript; charset=utf-8", include_str!("page/overlay.js")),
];
/// Browsers at a time.
const MOST_BROWSERS: usize = 8;
/// The longest message that a page has reason to send is a tenth of it.
const MOST_MESSAGE_BYTES: usize = 8 << 10;

/// What the page sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FromPage {
    /// Render this.
    View(Box<View>),
    /// The picture of this number was shown.
    Shown(u64),
    /// Bytes of memory for voxels from now on.
    Budget(u64),
    /// Load and evict nothing from now on, or do so again.
    Freeze(bool),
    /// Evict all but the coarsest level.
    Flush,
    /// Try again what failed.
    Retry,
    /// Tell of the tiles of each picture, or do not.
    Overlay(bool),
    /// What is seen at this place, in parts of the picture's sides?
    Pick([f64; 2]),
}

/// Renders for one browser until it is gone; that nothing can be rendered is an error.
type RenderLoop = dyn Fn(&Mailbox, session::Send<'_>) -> Result<(), Failure> + Send + Sync;

/// What all connections share.
struct Shared {
    hello: String,
    render_loop: Box<RenderLoop>,
    places: Arc<Semaphore>,
}

/// How long an interrupted viewer waits for recordings to be written.
const RECORDINGS: Duration = Duration::from_secs(10);

/// Serves the scene on this machine until it is interrupted. Each browser has an eye, and with it a budget, of its own.
pub(crate) fn serve<T: Scalar>(scene: Scene<T>, args: &Args) -> Result<(), Failure> {
    // What is wrong with the scene is said now; and the first browser need not wait.
    let first = scene.eye()?;
    let hello = status::hello(&scene, &first.stats())?;
    let first = Mutex::new(Some(first));
    let recordings = args.record.as_deref().map(Recordings::new).transpose()?;
    let records = recordings.is_some();
    let render_loop = move |mailbox: &Mailbox, send: session::Send<'_>| {
        let taken = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut eye = taken.map_or_else(|| scene.eye(), Ok)?;
        let levels = scene.levels.levels();
        let draw = |eye: &dyn Eye, view: &View| {
            let middle = |tile: &ExploredTile| scene.middle(tile.level, tile.tile);
            Overlay::new(eye.tiles(), levels, &view.camera(&scene.facts), middle)
        };
        if records {
            eye.record();
        }
        session::run(&mut *eye, mailbox, &draw, send);
        if let (Some(recordings), Some(trace)) = (&recordings, eye.take_trace()) {
            recordings.keep(&trace);
        }
        Ok(())
    };
    let places = Arc::new(Semaphore::new(MOST_BROWSERS));
    let shared = Arc::new(Shared { hello, render_loop: Box::new(render_loop), places: places.clone() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", args.port)).await.map_err(|error| {
            format!(
                "listening on 127.0.0.1:{}: {error}; --port chooses another, 0 any that is free",
                args.port
            )
        })?;
        // Before anyone is told that it is there.
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let url = format!("http://{}/", listener.local_addr()?);
        // Whoever does not listen need not: the page is there all the same.
        let _ = writeln!(std::io::stdout(), "viewer: {url} (Ctrl-C ends it)");
        if !args.no_open {
            open_browser(&url);
        }
        let mut app = Router::new().route("/socket", get(socket));
        for (path, kind, text) in FILES {
            app = app.route(path, get(move || async move { file(kind, text) }));
        }
        let app = app.layer(middleware::from_fn(only_local)).with_state(shared);
        tokio::select! {
            served = axum::serve(listener, app) => served.map_err(Failure::from),
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    // Ends all connections, and with them the threads that render for them, which then write what they recorded.
    drop(runtime);
    let interrupted = Instant::now();
    while records && places.available_permits() < MOST_BROWSERS && interrupted.elapsed() < RECORDINGS {
        thread::sleep(Duration::from_millis(5));
    }
    served
}

/// Opens the page where there is a display to show it on. That it cannot be opened is no failure: the address was printed.
fn open_browser(url: &str) {
    use std::process::{Command, Stdio};
    if ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().all(|name| std::env::var_os(name).is_none()) {
        return;
    }
    let quiet = || Stdio::null();
    let child = Command::new("xdg-open").arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    if let Ok(mut child) = child {
        thread::spawn(move || child.wait());
    }
}

/// Refuses requests under another name, which a stranger's page may have led here, and from pages of another origin.
async fn only_local(request: axum::extract::Request, next: Next) -> Response {
    if is_local(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "viewer: only pages of this machine may connect, as localhost or 127.0.0.1\n")
        .into_response()
}

fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let named = matches!(name, "localhost" | "127.0.0.1") && port.parse::<u16>().is_ok();
    let origin_is_host = |origin: &axum::http::HeaderValue| {
        origin.to_str().is_ok_and(|origin| origin.strip_prefix("http://") == Some(host))
    };
    named && headers.get_all(header::ORIGIN).iter().all(origin_is_host)
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; \
         connect-src 'self' ws://localhost:* ws://127.0.0.1:*; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

async fn socket(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.max_message_size(MOST_MESSAGE_BYTES).max_frame_size(MOST_MESSAGE_BYTES);
    upgrade.on_upgrade(move |socket| talk(socket, shared))
}

/// Closes the mailbox, and with it ends the render thread, however the connection ends.
struct Closes(Arc<Mailbox>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn talk(mut socket: WebSocket, shared: Arc<Shared>) {
    let Ok(place) = shared.places.clone().try_acquire_owned() else {
        return close(&mut socket, close_code::AGAIN, "too many browsers look at this already").await;
    };
    let (frames, mut outbox) = mpsc::channel(1);
    let mailbox = Arc::new(Mailbox::new());
    let closes = Closes(mailbox.clone());
    let hello = shared.hello.clone();
    let render = move || {
        let send = |frame: Vec<u8>| frames.blocking_send(frame).is_ok();
        if let Err(error) = (shared.render_loop)(&mailbox, &send) {
            let status =
                status::Status { number: 1, state: "failed", error: error.to_string(), ..Default::default() };
            send(status.message(&[]));
            // The page keeps the message until it goes.
            while mailbox.next(u64::MAX).is_some() {}
        }
        drop(place);
    };
    if let Err(error) = thread::Builder::new().name("viewer-render".into()).spawn(render) {
        return close(&mut socket, close_code::ERROR, &format!("starting a thread: {error}")).await;
    }
    if socket.send(Message::Text(hello.into())).await.is_err() {
        return;
    }
    loop {
        let done = tokio::select! {
            frame = outbox.recv() => match frame {
                Some(frame) => socket.send(Message::Binary(Bytes::from(frame))).await.map_err(|_| None),
                None => return,
            },
            message = socket.recv() => match message {
                Some(Ok(message)) => take(&closes.0, message).map_err(Some),
                _ => return,
            },
        };
        match done {
            Ok(()) => {}
            Err(None) => return,
            Err(Some((code, reason))) => return close(&mut socket, code, &reason).await,
        }
    }
}

/// Takes one message, or says why not.
fn take(mailbox: &Mailbox, message: Message) -> Result<(), (u16, String)> {
    let text = match message {
        Message::Text(text) => text,
        Message::Binary(_) => return Err((close_code::UNSUPPORTED, "messages must be text".into())),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => return Ok(()),
    };
    let refuse = |reason: String| (close_code::POLICY, reason);
    match serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))? {
        FromPage::View(view) => mailbox.put(view.checked().map_err(refuse)?),
        FromPage::Shown(number) => mailbox.shown(number),
        FromPage::Budget(bytes) => mailbox.order(|orders| orders.budget_bytes = Some(bytes)),
        FromPage::Freeze(frozen) => mailbox.order(|orders| orders.frozen = Some(frozen)),
        FromPage::Flush => mailbox.order(|orders| orders.flush = true),
        FromPage::Retry => mailbox.order(|orders| orders.retry = true),
        FromPage::Overlay(shown) => mailbox.order(|orders| orders.overlay = Some(shown)),
        FromPage::Pick(at) if at.iter().all(|part| (0.0..=1.0).contains(part)) => {
            mailbox.order(|orders| orders.pick = Some(at));
        }
        FromPage::Pick(at) => return Err(refuse(format!("there is no place {at:?} in a picture"))),
    }
    Ok(())
}

/// Ends a connection with a reason. The browser may be gone already, so what becomes of that does not matter.
async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    // A close frame has room for 123 bytes.
    let reason: String = reason.chars().filter(char::is_ascii).take(120).collect();
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
