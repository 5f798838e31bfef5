//! Queues: one per subscriber, with a task of its own.
//!
//! A notification is tried at once and then again after 1 s, 2 s, 4 s … 5 min, or after what the subscriber asks for,
//! until it is taken, refused for good, or a day old. Later ones do not wait behind one that is retried. The first
//! failure of each is reported, so that the incident says that nobody heard, and so is the last result. Pages have a queue
//! of their own and leave first: a storm of alarms neither keeps one out nor makes it wait.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use ukai_core::event::Notification;
use ukai_core::input::Input;

use super::{Notifier, NotifyError};

/// Waiting to be tried the first time, and again as many that are retried; of pages as many more.
pub const QUEUE: usize = 256;

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
    /// From the first attempt.
    pub give_up_after: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_secs(1),
            most: Duration::from_secs(300),
            give_up_after: Duration::from_secs(24 * 3600),
        }
    }
}

impl Backoff {
    /// `attempts`: how many have failed. What the subscriber asks for holds, up to the day it all ends.
    fn wait(&self, attempts: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1))).min(self.most);
        asked.map_or(doubled, |asked| asked.max(doubled)).min(self.give_up_after)
    }

    /// None: it is given up. Who asks for more than is left has one more try before the end.
    fn due(&self, attempts: u32, asked: Option<Duration>, now: Instant, give_up_at: Instant) -> Option<Instant> {
        let due = now + self.wait(attempts, asked);
        if due < give_up_at {
            return Some(due);
        }
        let last = give_up_at.checked_sub(self.first)?;
        (asked.is_some() && now < last).then_some(last)
    }
}

/// The subscribers' queues. Dropping it ends their tasks.
pub struct Delivery {
    queues: BTreeMap<String, Queue>,
    backoff: Backoff,
    results: mpsc::Sender<Input>,
}

struct Queue {
    pages: mpsc::Sender<Message>,
    others: mpsc::Sender<Message>,
    task: JoinHandle<()>,
}

enum Message {
    Tell {
        notification: Box<Notification>,
        repeated: bool,
    },
    /// The subscriber's settings were read again.
    Become(Box<Notifier>),
}

impl Delivery {
    /// Results arrive as [`Input::NotificationSent`], a first failure as [`Input::NotificationDelayed`].
    pub fn spawn(notifiers: Vec<Notifier>, backoff: Backoff, results: mpsc::Sender<Input>) -> Delivery {
        let mut delivery = Delivery { queues: BTreeMap::new(), backoff, results };
        delivery.reconfigure(notifiers);
        delivery
    }

    /// Queues keep what they hold; those of subscribers that are no longer listed end.
    pub fn reconfigure(&mut self, notifiers: Vec<Notifier>) {
        let mut before = std::mem::take(&mut self.queues);
        for notifier in notifiers {
            let name = notifier.name().to_owned();
            let queue = match before.remove(&name) {
                Some(queue) => queue.reconfigured(notifier, self.backoff, &self.results),
                None => Queue::spawn(notifier, self.backoff, self.results.clone()),
            };
            self.queues.insert(name, queue);
        }
    }

    /// Never waits. `repeated`: it may have been sent before, by an earlier process. A subscriber that is unknown, or
    /// whose queue is full, is reported as failed; the sentence says which. Who hears of what was decided before.
    pub fn send(&self, subscriber: &str, notification: Notification, repeated: bool) {
        let key = notification.key.clone();
        let Some(queue) = self.queues.get(subscriber) else {
            let detail = "there is no such subscriber in the configuration".to_owned();
            return self.report_soon(key, subscriber, detail);
        };
        let sender = if notification.page { &queue.pages } else { &queue.others };
        match sender.try_send(Message::Tell { notification: Box::new(notification), repeated }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let detail = format!("{QUEUE} notifications wait for this subscriber already");
                self.report_soon(key, subscriber, detail);
            }
            Err(TrySendError::Closed(_)) => {
                self.report_soon(key, subscriber, "the subscriber's task has ended".to_owned());
            }
        }
    }

    fn report_soon(&self, key: String, subscriber: &str, failure: String) {
        let input = sent(key, subscriber, 0, Err(failure));
        let results = self.results.clone();
        tokio::spawn(async move {
            let _ = results.send(input).await;
        });
    }
}

impl Queue {
    fn spawn(notifier: Notifier, backoff: Backoff, results: mpsc::Sender<Input>) -> Queue {
        let ((pages, next_page), (others, next_other)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let worker = Worker { notifier, backoff, results, pending: Vec::new() };
        Queue { pages, others, task: tokio::spawn(worker.run(next_page, next_other)) }
    }

    /// A full queue of pages cannot be told, so it is begun anew: its subscriber has not answered for long.
    fn reconfigured(self, notifier: Notifier, backoff: Backoff, results: &mpsc::Sender<Input>) -> Queue {
        match self.pages.try_send(Message::Become(Box::new(notifier.clone()))) {
            Ok(()) => self,
            Err(_) => Queue::spawn(notifier, backoff, results.clone()),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    notifier: Notifier,
    backoff: Backoff,
    results: mpsc::Sender<Input>,
    pending: Vec<Pending>,
}

struct Pending {
    notification: Box<Notification>,
    repeated: bool,
    attempts: u32,
    due: Instant,
    give_up_at: Instant,
}

impl Worker {
    async fn run(mut self, mut pages: mpsc::Receiver<Message>, mut others: mpsc::Receiver<Message>) {
        loop {
            let (page_due, other_due) = (self.next_due(true), self.next_due(false));
            let (page_fits, other_fits) = (self.has_room(true), self.has_room(false));
            let message = tokio::select! {
                // New ones before retries, which have waited before and can wait a little more; pages before all others.
                biased;
                message = pages.recv(), if page_fits => message,
                () = wait_until(page_due), if page_due.is_some() => {
                    self.retry_due(true).await;
                    continue;
                }
                message = others.recv(), if other_fits => message,
                () = wait_until(other_due), if other_due.is_some() => {
                    self.retry_due(false).await;
                    continue;
                }
            };
            match message {
                Some(Message::Tell { notification, repeated }) => self.begin(notification, repeated).await,
                Some(Message::Become(notifier)) => self.notifier = *notifier,
                None => return,
            }
        }
    }

    fn retried(&self, page: bool) -> impl Iterator<Item = &Pending> {
        self.pending.iter().filter(move |pending| pending.notification.page == page)
    }

    fn next_due(&self, page: bool) -> Option<Instant> {
        self.retried(page).map(|pending| pending.due).min()
    }

    fn has_room(&self, page: bool) -> bool {
        self.retried(page).count() < QUEUE
    }

    async fn begin(&mut self, notification: Box<Notification>, repeated: bool) {
        let now = Instant::now();
        let give_up_at = now + self.backoff.give_up_after;
        self.attempt(Pending { notification, repeated, attempts: 0, due: now, give_up_at }).await;
    }

    async fn retry_due(&mut self, page: bool) {
        let now = Instant::now();
        let is_due = |pending: &Pending| pending.notification.page == page && pending.due <= now;
        let due = self.pending.iter().enumerate().filter(|(_, pending)| is_due(pending));
        if let Some((index, _)) = due.min_by_key(|(_, pending)| pending.due) {
            let pending = self.pending.remove(index);
            self.attempt(pending).await;
        }
    }

    async fn attempt(&mut self, mut pending: Pending) {
        pending.attempts += 1;
        let repeated = pending.repeated || pending.attempts > 1;
        match self.notifier.send(&pending.notification, repeated).await {
            Ok(()) => self.report(&pending, Ok(())).await,
            Err(error) => self.after_failure(pending, error).await,
        }
    }

    async fn after_failure(&mut self, mut pending: Pending, error: NotifyError) {
        let now = Instant::now();
        if !error.retryable {
            let detail = format!("{}; it will not be tried again", error.detail);
            return self.report(&pending, Err(detail)).await;
        }
        let due = self.backoff.due(pending.attempts, error.retry_after, now, pending.give_up_at);
        let Some(due) = due else {
            let detail = format!("{}; given up after {} attempts", error.detail, pending.attempts);
            return self.report(&pending, Err(detail)).await;
        };
        pending.due = due;
        tracing::warn!(
            subscriber = self.notifier.name(),
            key = pending.notification.key,
            attempts = pending.attempts,
            error = error.detail,
            "a notification did not arrive and will be tried again"
        );
        if pending.attempts == 1 {
            let key = pending.notification.key.clone();
            let (subscriber, attempts) = (self.notifier.name().to_owned(), pending.attempts);
            let detail = format!("{}; it will be tried again", error.detail);
            let _ = self.results.send(Input::NotificationDelayed { key, subscriber, attempts, detail }).await;
        }
        self.pending.push(pending);
    }

    async fn report(&self, pending: &Pending, result: Result<(), String>) {
        let input = sent(pending.notification.key.clone(), self.notifier.name(), pending.attempts, result);
        // The daemon that no longer listens sends it again when it starts, under the same key.
        let _ = self.results.send(input).await;
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn sent(key: String, subscriber: &str, attempts: u32, result: Result<(), String>) -> Input {
    Input::NotificationSent { key, subscriber: subscriber.to_owned(), attempts, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (1..=11).map(|attempts| backoff.wait(attempts, None).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff.wait(u32::MAX, None), backoff.most);
        assert_eq!(backoff.wait(1, Some(Duration::from_secs(30))).as_secs(), 30);
        assert_eq!(backoff.wait(9, Some(Duration::ZERO)).as_secs(), 256);
        assert_eq!(backoff.wait(1, Some(Duration::MAX)), backoff.give_up_after);
    }

    #[test]
    fn who_asks_for_more_than_a_day_is_tried_once_more_at_its_end() {
        let (backoff, begun) = (Backoff::default(), Instant::now());
        let give_up_at = begun + backoff.give_up_after;
        let week = Some(Duration::from_secs(7 * 24 * 3600));
        let last = backoff.due(1, week, begun, give_up_at).unwrap();
        assert_eq!(give_up_at - last, backoff.first);
        assert_eq!(backoff.due(2, week, last, give_up_at), None);
        assert_eq!(backoff.due(40, None, give_up_at - backoff.most, give_up_at), None, "nothing was asked for");
    }
}
