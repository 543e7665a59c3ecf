//! Work beside and beyond the request, in the one call that an instance gets.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{
    future::LocalBoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use spin_executor::{CancelOnDropToken, push_waker_and_get_token};
use wasi::{clocks::monotonic_clock, io::poll::Pollable};

thread_local! {
    static SPAWNED: RefCell<Vec<LocalBoxFuture<'static, ()>>> = const { RefCell::new(Vec::new()) };
    static LINGERING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static ANSWERED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and all that it spawns, to the end.
pub(crate) async fn run(work: impl Future<Output = ()> + 'static) {
    let mut running = FuturesUnordered::<LocalBoxFuture<'static, ()>>::new();
    running.push(Box::pin(work));
    let again = Arc::new(Again::default());
    let waker = Waker::from(Arc::clone(&again));
    poll_fn(|_| {
        loop {
            running.extend(SPAWNED.take());
            again.0.store(false, Relaxed);
            // What is waited for wakes the executor by itself. A task that wakes itself or another one does not: it is seen here.
            let polled = running.poll_next_unpin(&mut Context::from_waker(&waker));
            let is_more = again.0.load(Relaxed) || !SPAWNED.with_borrow(Vec::is_empty);
            match polled {
                Poll::Ready(None) if !is_more => return Poll::Ready(()),
                Poll::Pending if !is_more => return Poll::Pending,
                _ => {}
            }
        }
    })
    .await;
}

/// Whether a task has been woken since it was looked at last.
#[derive(Default)]
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Runs `work` beside the rest.
pub(crate) fn spawn(work: impl Future<Output = ()> + 'static) {
    SPAWNED.with_borrow_mut(|spawned| spawned.push(Box::pin(work)));
}

/// Lets what was spawned begin.
pub(crate) async fn let_others_run() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The answer is out.
pub(crate) fn answered() {
    ANSWERED.set(true);
    LINGERING.take().into_iter().for_each(Waker::wake);
}

/// Waits.
pub(crate) async fn sleep(ms: u64) {
    until(after(ms), || false).await;
}

/// Waits as long as there may be more to come: an instance serves one request, so until it is answered.
pub(crate) async fn linger(ms: u64) {
    until(after(ms), || ANSWERED.get()).await;
}

/// Waits for the host. May end early: what was waited for has to be looked at again.
pub(crate) const fn ready(pollable: Pollable) -> Ready {
    Ready {
        pollable: Some(pollable),
        token: None,
    }
}

/// The future of [`ready`]. Dropping it drops the pollable, which must not outlive what it is of.
pub(crate) struct Ready {
    pollable: Option<Pollable>,
    token: Option<CancelOnDropToken>,
}

impl Future for Ready {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(pollable) = self.pollable.take() else {
            self.token = None;
            return Poll::Ready(());
        };
        if pollable.ready() {
            return Poll::Ready(());
        }
        let token = push_waker_and_get_token(pollable, context.waker().clone());
        self.token = Some(CancelOnDropToken::from(token));
        Poll::Pending
    }
}

fn after(ms: u64) -> u64 {
    monotonic_clock::now().saturating_add(ms.saturating_mul(1_000_000))
}

async fn until(deadline: u64, is_over: impl Fn() -> bool) {
    while !is_over() && monotonic_clock::now() < deadline {
        poll_fn(|context| {
            LINGERING.with_borrow_mut(|lingering| lingering.push(context.waker().clone()));
            Poll::Ready(())
        })
        .await;
        ready(monotonic_clock::subscribe_instant(deadline)).await;
    }
}
