//! What is to happen, in the order of its time; what falls on one moment in the order in which it was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::world::Ms;

#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Slot>>,
    items: Vec<Option<T>>,
    free: Vec<usize>,
    count: u64,
}

/// When, which in order, and where it is kept.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(Ms, u64, usize);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), items: Vec::new(), free: Vec::new(), count: 0 }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, at: Ms, item: T) {
        let place = match self.free.pop() {
            Some(place) => {
                self.items[place] = Some(item);
                place
            }
            None => {
                self.items.push(Some(item));
                self.items.len() - 1
            }
        };
        self.count += 1;
        self.heap.push(Reverse(Slot(at, self.count, place)));
    }

    pub fn next_at(&self) -> Option<Ms> {
        self.heap.peek().map(|Reverse(Slot(at, ..))| *at)
    }

    pub fn pop(&mut self) -> Option<T> {
        let Reverse(Slot(_, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.items[place].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_and_then_in_order() {
        let mut queue = Queue::default();
        for (at, item) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            queue.push(at, item);
        }
        assert_eq!(queue.next_at(), Some(1));
        let mut taken = String::new();
        while let Some(item) = queue.pop() {
            taken.push(item);
            if item == 'a' {
                queue.push(9, 'e');
            }
        }
        assert_eq!(taken, "abcde");
    }
}
