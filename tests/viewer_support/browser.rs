//! Owns [`Browser`]: a headless Chromium, driven through its developer tools' protocol. `$CHROMIUM` names it, or it is found in the `PATH`.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Where there is a Chromium, or a relative of it.
pub(crate) fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    found.find(|file| file.is_file())
}

/// One page of a browser; both end when it is dropped.
pub(crate) struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    number: u64,
    /// What the page complained of: exceptions, and errors in its log.
    pub(crate) complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Opens an empty page.
    pub(crate) fn new(chromium: &Path) -> Self {
        let profile = TempDir::new().unwrap();
        let mut child = Command::new(chromium)
            .args(["--headless=new", "--remote-debugging-port=0", "--disable-gpu", "--hide-scrollbars"])
            // In containers there is often no sandbox to be had; it only sees a page of this test.
            .args(["--no-sandbox", "--no-first-run", "--mute-audio", "--disable-sync", "--disable-quic"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", chromium.display()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned))
            .expect("the browser says where its DevTools listen");
        // It goes on to talk, and must not be kept from it.
        std::thread::spawn(move || lines.for_each(drop));
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).unwrap().to_owned();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        let mut browser = Self {
            child,
            socket,
            session: String::new(),
            number: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, &json!({}));
        }
        browser
    }

    /// Calls a method and waits for its result.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut call = json!({ "id": self.number, "method": method, "params": params });
        if !self.session.is_empty() {
            call["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Ok(text) = message.to_text() else { continue };
            let Ok(mut answer) = serde_json::from_str::<Value>(text) else { continue };
            if answer["id"] == json!(self.number) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// The size of the window, and how many pixels of a picture make one of it.
    pub(crate) fn resize(&mut self, width: u32, height: u32, scale: u32, mobile: bool) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        self.call("Emulation.setTouchEmulationEnabled", &json!({ "enabled": mobile }));
    }

    pub(crate) fn go(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let what = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", &what);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Waits until an expression is true; one that cannot be evaluated yet is not.
    pub(crate) fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        let quiet = format!("(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()");
        while self.value(&quiet) != json!(true) {
            if begun.elapsed() > Duration::from_secs(90) {
                let status = self.value("typeof status === 'undefined' ? null : JSON.stringify(status)");
                panic!("never: {expression}; the page's status is {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn mouse(&mut self, kind: &str, [x, y]: [f64; 2], more: &Value) {
        let mut event = json!({ "type": kind, "x": x, "y": y, "button": "none" });
        for (name, value) in more.as_object().unwrap() {
            event[name] = value.clone();
        }
        self.call("Input.dispatchMouseEvent", &event);
    }

    /// Drags from one place of the window to another.
    pub(crate) fn drag(&mut self, from: [f64; 2], to: [f64; 2]) {
        let left = json!({ "button": "left", "buttons": 1, "clickCount": 1 });
        self.mouse("mousePressed", from, &left);
        for step in 1..=8 {
            let part = f64::from(step) / 8.0;
            let at = [0, 1].map(|i| from[i] + (to[i] - from[i]) * part);
            self.mouse("mouseMoved", at, &json!({ "button": "left", "buttons": 1 }));
        }
        self.mouse("mouseReleased", to, &left);
    }

    /// Turns the wheel by one notch; upwards is nearer.
    pub(crate) fn wheel(&mut self, at: [f64; 2], delta: f64) {
        self.mouse("mouseWheel", at, &json!({ "deltaX": 0, "deltaY": delta }));
    }

    /// Clicks in the middle of an element.
    pub(crate) fn click(&mut self, id: &str) {
        let box_of = format!(
            "(() => {{ const box = document.getElementById('{id}').getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let middle = self.value(&box_of);
        let at = [0, 1].map(|i| middle[i].as_f64().unwrap());
        let left = json!({ "button": "left", "buttons": 1, "clickCount": 1 });
        self.mouse("mousePressed", at, &left);
        self.mouse("mouseReleased", at, &left);
    }

    pub(crate) fn key(&mut self, kind: &str, key: &str) {
        self.call("Input.dispatchKeyEvent", &json!({ "type": kind, "key": key }));
    }

    /// The window as PNG, in base64.
    pub(crate) fn screenshot(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        shot["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
