//! Asking several servers for one thing: the next is asked when the one before fails or takes long.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Starts the attempts in order, each `hedge` after the one before or as soon as all before it have failed, and returns the first
/// result that `accept` takes. `None` when all are refused or the deadline passes; the attempts still under way are dropped.
pub(crate) async fn first<T, R, F>(
    attempts: impl IntoIterator<Item = F>,
    hedge: Duration,
    deadline: Instant,
    mut accept: impl FnMut(T) -> Option<R>,
) -> Option<R>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut attempts = attempts.into_iter();
    let mut running = JoinSet::new();
    let race = async {
        let mut exhausted = false;
        loop {
            match attempts.next() {
                Some(attempt) => drop(running.spawn(attempt)),
                None => exhausted = true,
            }
            let next_start = Instant::now() + hedge;
            loop {
                tokio::select! {
                    biased;
                    finished = running.join_next() => match finished {
                        Some(Ok(result)) => {
                            if let Some(result) = accept(result) {
                                return Some(result);
                            }
                            if !exhausted && running.is_empty() {
                                break;
                            }
                        }
                        Some(Err(_)) => {}
                        None if exhausted => return None,
                        None => break,
                    },
                    () = sleep_until(next_start), if !exhausted => break,
                }
            }
        }
    };
    timeout_at(deadline, race).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn the_next_is_asked_when_one_fails() {
        let taken =
            first((0..4).map(|n| async move { n }), Duration::from_secs(60), in_a_minute(), |n| (n == 3).then_some(n))
                .await;
        assert_eq!(taken, Some(3));
    }

    #[tokio::test]
    async fn the_next_is_asked_when_one_is_slow() {
        let attempts = (0..2).map(|n| async move {
            if n == 0 {
                std::future::pending::<()>().await;
            }
            n
        });
        assert_eq!(first(attempts, Duration::from_millis(1), in_a_minute(), Some).await, Some(1));
    }

    #[tokio::test]
    async fn none_is_accepted() {
        let taken: Option<i32> = first((0..3).map(|n| async move { n }), Duration::ZERO, in_a_minute(), |_| None).await;
        assert_eq!(taken, None);
    }

    #[tokio::test]
    async fn the_deadline_holds() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let attempts = [std::future::pending::<i32>()];
        assert_eq!(first(attempts, Duration::from_secs(1), deadline, Some).await, None);
    }
}
