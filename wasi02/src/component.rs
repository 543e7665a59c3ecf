//! What the host calls.

#![allow(
    unsafe_code,
    reason = "the SDK's macro turns its own handles into those of the export"
)]

use keystorm::app::App;
use spin_sdk::{
    http::{IncomingRequest, ResponseOutparam},
    http_component,
};

use crate::{http_ports, ports::SpinPorts, tasks};

#[http_component]
async fn handle(request: IncomingRequest, out: ResponseOutparam) {
    tasks::run(async move {
        match http_ports::request(request) {
            // The manifest gives these routes to the page: the same file, granted nothing.
            Ok(request) if is_page(&request.path) => {
                let header = |name: &str| {
                    let value = request.headers.get(name);
                    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
                };
                let answer = keystorm_ui::respond(
                    request.method.as_str(),
                    &request.path,
                    header("accept-encoding"),
                    header("if-none-match"),
                );
                http_ports::page(out, answer, request.method == http::Method::HEAD).await;
            }
            Ok(request) => {
                let app = App::new(SpinPorts);
                let response = app.handle(request).await;
                // What the administrator has changed is known to the stores before it is told.
                tasks::let_others_run().await;
                http_ports::respond(out, response).await;
            }
            Err(()) => http_ports::refuse(out),
        }
        // Nothing more comes in here: what was waiting for more need not wait on.
        tasks::answered();
    })
    .await;
}

fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/assets/")
}
