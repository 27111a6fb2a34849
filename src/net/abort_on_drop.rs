//! A task that ends with its owner.

use tokio::task::{AbortHandle, JoinHandle};

/// Aborts a task when it is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(AbortHandle);

impl<T> From<JoinHandle<T>> for AbortOnDrop {
    fn from(task: JoinHandle<T>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::rc::Rc;

    use super::*;

    #[tokio::test]
    async fn dropping_the_handle_ends_the_task() {
        let tasks = tokio::task::LocalSet::new();
        let held = Rc::new(());
        let inner = Rc::clone(&held);
        let task = tasks.spawn_local(async move {
            let _inner = inner;
            pending::<()>().await;
        });
        drop(AbortOnDrop::from(task));
        tasks.await;
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
