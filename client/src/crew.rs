//! A crew: tasks that send in batches what is handed over one by one.
//!
//! While nothing is under way what there is leaves at once, alone if need be; while batches are under way the
//! next ones fill up, so that a busy crew sends tens and an idle one adds no latency. No timer is involved.
//!
//! A task takes a batch, sees it through, and takes the next. Tasks are started when there is a batch and
//! nobody to take it, and wait for more when there is none. What waits stands under a mutex that is held for
//! a look and never across an await.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Those who wait for what a change has brought. They are told once nothing is locked.
pub(crate) type Told = Vec<oneshot::Sender<()>>;

/// Tells them.
pub(crate) fn tell_all(told: Told) {
    for tell in told {
        // Who has gone gives back what was theirs.
        let _ = tell.send(());
    }
}

/// What a crew does.
pub(crate) trait Work: Send + Sync + 'static {
    /// What was handed over and is not under way.
    type Waiting: Default + fmt::Debug + Send;
    /// What goes together.
    type Batch: Send;
    /// What came of a batch.
    type Outcome: Send;

    /// How many batches there are, at least one where there is any; less than a full one counts only if
    /// `partial`.
    fn due(waiting: &Self::Waiting, partial: bool) -> usize;
    /// The next batch, where one is due.
    fn take(waiting: &mut Self::Waiting, partial: bool) -> Option<Self::Batch>;
    /// Whether nothing waits.
    fn is_empty(waiting: &Self::Waiting) -> bool;
    /// Sees a batch through.
    fn run(&self, batch: Self::Batch) -> impl Future<Output = Self::Outcome> + Send;
    /// Takes what came of it, and says until when no batch is begun, if so, and who is to be told.
    fn finish(&self, waiting: &mut Self::Waiting, outcome: Self::Outcome) -> (Option<Instant>, Told);
}

/// Tasks that do the same work, and what waits for them.
#[derive(Debug)]
pub(crate) struct Crew<W: Work> {
    work: W,
    tasks_max: usize,
    runtime: Handle,
    state: Mutex<State<W::Waiting>>,
}

#[derive(Debug, Default)]
struct State<T> {
    waiting: T,
    /// Tasks that have nothing to do.
    idle: Vec<Arc<Notify>>,
    /// Those that see a batch through.
    busy: usize,
    /// Those that were started or woken and have not looked yet.
    called: usize,
    paused: bool,
    /// Nothing more is handed over.
    closed: bool,
    /// The runtime has gone, and all that waited with it.
    abandoned: bool,
}

impl<T> State<T> {
    fn due<W: Work<Waiting = T>>(&self) -> usize {
        if self.paused { 0 } else { W::due(&self.waiting, self.busy == 0) }
    }

    fn take<W: Work<Waiting = T>>(&mut self) -> Option<W::Batch> {
        let batch = if self.due::<W>() > 0 { W::take(&mut self.waiting, self.busy == 0) } else { None };
        self.busy += usize::from(batch.is_some());
        batch
    }
}

/// Who may hand something over. When the last one is gone the crew does what is left and ends.
#[derive(Debug)]
pub(crate) struct Owner<W: Work>(Arc<Crew<W>>);

impl<W: Work> Owner<W> {
    /// A crew of up to `tasks_max` tasks on the runtime of the caller.
    pub fn new(work: W, waiting: W::Waiting, tasks_max: usize) -> Self {
        let state = State {
            waiting,
            idle: Vec::new(),
            busy: 0,
            called: 0,
            paused: false,
            closed: false,
            abandoned: false,
        };
        let runtime = Handle::current();
        Self(Arc::new(Crew { work, tasks_max, runtime, state: Mutex::new(state) }))
    }

    /// Changes what waits, and has it taken where a batch is due; `None` where nobody is left to take it.
    #[inline]
    pub fn change<T>(&self, change: impl FnOnce(&mut W::Waiting) -> T) -> Option<T> {
        let mut state = self.0.lock();
        if state.abandoned {
            return None;
        }
        let result = change(&mut state.waiting);
        self.0.call(state);
        Some(result)
    }
}

impl<W: Work> Drop for Owner<W> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.call_all();
    }
}

impl<T> State<T> {
    fn call_all(&mut self) {
        self.called += self.idle.len();
        self.idle.drain(..).for_each(|task| task.notify_one());
    }
}

impl<W: Work> Crew<W> {
    fn lock(&self) -> MutexGuard<'_, State<W::Waiting>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a task where there are more batches than tasks that were called for them.
    #[inline]
    fn call(self: &Arc<Self>, mut state: MutexGuard<'_, State<W::Waiting>>) {
        if state.busy + state.called >= self.tasks_max || state.due::<W>() <= state.called {
            return;
        }
        state.called += 1;
        if let Some(idle) = state.idle.pop() {
            return idle.notify_one();
        }
        drop(state);
        // Outside the lock: where the runtime has gone the task is dropped at once.
        let task = Task { crew: Arc::clone(self), needed: Arc::default(), is_done: false };
        self.runtime.spawn(task.run());
    }
}

/// A task of a crew, as long as it lives.
struct Task<W: Work> {
    crew: Arc<Crew<W>>,
    /// It is called.
    needed: Arc<Notify>,
    is_done: bool,
}

impl<W: Work> Task<W> {
    async fn run(mut self) {
        loop {
            // It was started, or called.
            let mut next = self.first();
            while let Some(batch) = next {
                let outcome = self.crew.work.run(batch).await;
                next = self.finish(outcome).await;
            }
            if self.is_done {
                return;
            }
            self.needed.notified().await;
        }
    }

    fn first(&mut self) -> Option<W::Batch> {
        self.look(|state| state.called -= 1)
    }

    /// Takes a batch, or goes to those who have nothing to do, or ends where there will be none.
    fn look(&mut self, note: impl FnOnce(&mut State<W::Waiting>)) -> Option<W::Batch> {
        let mut state = self.crew.lock();
        note(&mut state);
        let next = state.take::<W>();
        if next.is_none() {
            if state.closed && W::is_empty(&state.waiting) {
                // The others wait for the same.
                state.call_all();
                self.is_done = true;
                return None;
            }
            state.idle.push(Arc::clone(&self.needed));
        }
        self.crew.call(state);
        next
    }

    /// Takes what came of a batch, waits where nothing is to be begun for a while, and takes the next.
    async fn finish(&mut self, outcome: W::Outcome) -> Option<W::Batch> {
        let Some(until) = self.settle(outcome) else { return self.next() };
        tokio::time::sleep_until(until).await;
        self.crew.lock().paused = false;
        self.next()
    }

    /// Takes what came of a batch; this task is to wait for all until the time that is given.
    fn settle(&self, outcome: W::Outcome) -> Option<Instant> {
        let mut state = self.crew.lock();
        let (until, told) = self.crew.work.finish(&mut state.waiting, outcome);
        let until = until.filter(|_| !state.paused);
        state.paused |= until.is_some();
        drop(state);
        tell_all(told);
        until
    }

    fn next(&mut self) -> Option<W::Batch> {
        self.look(|state| state.busy -= 1)
    }
}

impl<W: Work> Drop for Task<W> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // The runtime ends, or what was done panicked: what waits would wait for ever.
        let waiting = {
            let mut state = self.crew.lock();
            state.abandoned = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    /// Batches of two numbers, each seen through once it may; a batch with a zero pauses all.
    #[derive(Debug)]
    struct Twos {
        may: Arc<Semaphore>,
        done: mpsc::UnboundedSender<Vec<u32>>,
    }

    impl Work for Twos {
        type Waiting = Vec<u32>;
        type Batch = Vec<u32>;
        type Outcome = Vec<u32>;

        fn due(waiting: &Vec<u32>, partial: bool) -> usize {
            (waiting.len() / 2).max(usize::from(partial && !waiting.is_empty()))
        }

        fn take(waiting: &mut Vec<u32>, _partial: bool) -> Option<Vec<u32>> {
            Some(waiting.drain(..waiting.len().min(2)).collect())
        }

        fn is_empty(waiting: &Vec<u32>) -> bool {
            waiting.is_empty()
        }

        async fn run(&self, batch: Vec<u32>) -> Vec<u32> {
            self.may.acquire().await.expect("it stays open").forget();
            batch
        }

        fn finish(&self, _: &mut Vec<u32>, batch: Vec<u32>) -> (Option<Instant>, Told) {
            let pause = batch.contains(&0).then(|| Instant::now() + PAUSE);
            self.done.send(batch).expect("the test listens");
            (pause, Told::new())
        }
    }

    fn crew(may: usize) -> (Owner<Twos>, Arc<Semaphore>, mpsc::UnboundedReceiver<Vec<u32>>) {
        let (may, (done, listen)) = (Arc::new(Semaphore::new(may)), mpsc::unbounded_channel());
        (Owner::new(Twos { may: Arc::clone(&may), done }, Vec::new(), 3), may, listen)
    }

    #[tokio::test]
    async fn the_first_leaves_alone_and_the_next_fill_batches_while_it_is_under_way() {
        let (crew, may, mut done) = crew(0);
        crew.change(|waiting| waiting.push(1));
        // It is taken once its task runs.
        while crew.change(|waiting| !waiting.is_empty()) == Some(true) {
            tokio::task::yield_now().await;
        }
        (2..=6).for_each(|number| {
            crew.change(|waiting| waiting.push(number));
        });
        may.add_permits(1);
        assert_eq!(done.recv().await, Some(vec![1]));
        may.add_permits(9);
        let mut rest = [done.recv().await, done.recv().await, done.recv().await];
        rest.sort();
        assert_eq!(rest, [Some(vec![2, 3]), Some(vec![4, 5]), Some(vec![6])]);
    }

    #[tokio::test]
    async fn what_is_left_is_done_when_nobody_is_left_to_hand_over_and_then_all_tasks_end() {
        let (crew, may, mut done) = crew(3);
        crew.change(|waiting| waiting.extend(1..=6));
        let mut seen: Vec<u32> = Vec::new();
        while seen.len() < 6 {
            seen.extend(done.recv().await.expect("there is more"));
        }
        // All three have nothing to do, or will in a moment.
        crew.change(|waiting| waiting.push(7));
        drop(crew);
        may.add_permits(1);
        assert_eq!(done.recv().await, Some(vec![7]));
        assert_eq!(done.recv().await, None, "what they share goes with the last task");
    }

    #[tokio::test]
    async fn nothing_is_begun_in_a_pause_and_what_waits_goes_on_after_it() {
        let (crew, _may, mut done) = crew(9);
        crew.change(|waiting| waiting.push(0));
        let began = Instant::now();
        assert_eq!(done.recv().await, Some(vec![0]));
        crew.change(|waiting| waiting.extend([1, 2, 3]));
        assert_eq!(done.recv().await.map(|batch| batch.len()), Some(2));
        assert_eq!(done.recv().await.map(|batch| batch.len()), Some(1));
        assert!(Instant::now() >= began + PAUSE);
    }

    #[test]
    fn a_runtime_that_ends_is_told_to_who_hands_over() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (crew, _may, _done) = runtime.block_on(async { crew(0) });
        crew.change(|waiting| waiting.push(1));
        drop(runtime);
        assert_eq!(crew.change(|waiting| waiting.len()), None);
        let (crew, ..) = {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async { self::crew(0) })
        };
        crew.change(|waiting| waiting.push(1));
        assert_eq!(crew.change(|waiting| waiting.len()), None, "it had gone before");
    }
}
