//! Background work that a panic does not end for good.

use std::any::Any;
use std::future::Future;

/// Runs a task until it ends by itself, anew after each panic; `after_panic` is told the panic's message, and is done before the task runs again.
pub(crate) async fn supervised<T, A>(task: impl Fn() -> T, after_panic: impl Fn(String) -> A)
where
    T: Future<Output = ()> + Send + 'static,
    A: Future<Output = ()>,
{
    while let Err(error) = tokio::spawn(task()).await {
        // Otherwise it was cancelled: the runtime ends.
        let Ok(panic) = error.try_into_panic() else {
            return;
        };
        after_panic(message(&*panic)).await;
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_goes_on_after_a_panic_that_is_reported() {
        let runs = Arc::new(AtomicUsize::new(0));
        let reported = std::sync::Mutex::new(Vec::new());
        let task = || {
            let runs = Arc::clone(&runs);
            async move {
                match runs.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("the first"),
                    1 => panic!("number {}", 2),
                    _ => {}
                }
            }
        };
        let report = |text| {
            reported.lock().unwrap().push(text);
            std::future::ready(())
        };
        supervised(task, report).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert_eq!(*reported.lock().unwrap(), ["the first", "number 2"]);
    }
}
