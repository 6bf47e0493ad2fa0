//! The threads that questions are computed on, apart from those that serve the network.
//!
//! A question may keep a thread busy for long between two moments at which it can be stopped. Here it delays other
//! questions at most; whoever waits for it is told in time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::error::DataFusionError;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::error::QueryError;

/// Enough for a question that nests as deep as [`depth`](crate::depth) lets it; what is not used takes no memory.
const STACK_BYTES: usize = 512 << 20;

/// See the module.
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    /// Starts as many threads as there are processors.
    pub(crate) fn start() -> std::io::Result<Self> {
        let mut threads = Builder::new_multi_thread();
        threads.thread_name("queries").thread_stack_size(STACK_BYTES).enable_all();
        threads.build().map(|runtime| Threads(Some(runtime)))
    }

    /// Computes `work`; it is ended when the task is dropped.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let runtime = self.0.as_ref().expect("the threads are there until they are dropped");
        Task(runtime.spawn(work))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background(); // may be called from asynchronous code, which must not wait
        }
    }
}

/// Work on a thread of its own.
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T, QueryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let fail = |error| QueryError::Bug(Arc::new(DataFusionError::ExecutionJoin(Box::new(error))));
        Pin::new(&mut self.0).poll(context).map_err(fail)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
