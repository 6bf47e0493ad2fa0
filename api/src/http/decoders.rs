//! The threads that large bodies are decoded on: few, and always the same.
//!
//! A body of megabytes must not keep a thread of the network busy. And whoever decodes allocates the batch, which another
//! thread frees when it is flushed; the allocator gives such memory back to the thread that allocated it. So there are as
//! many threads as processors, each of which uses again what came back, and not the hundreds of a pool for blocking work.

use axum::http::StatusCode;
use tokio::runtime::{Builder, Runtime};

use super::problem::Problem;

/// See the module.
pub(crate) struct Decoders(Option<Runtime>);

impl Decoders {
    /// Starts as many threads as there are processors.
    pub(crate) fn start() -> std::io::Result<Self> {
        Builder::new_multi_thread().thread_name("decode").build().map(|runtime| Decoders(Some(runtime)))
    }

    /// Computes `work` there.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let runtime = self.0.as_ref().expect("the threads are there until they are dropped");
        runtime.spawn(async move { work() }).await.map_err(|error| {
            tracing::error!(%error, "a body could not be decoded");
            let detail = "the request failed here; the program's log says why";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        })
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background(); // may be called from asynchronous code, which must not wait
        }
    }
}
