//! What outlives restarts and cleaning.

use super::*;

#[test]
fn a_repeated_delete_rests_on_the_first() {
    fn run<F: Flaws>() -> (Position, Position) {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a"]);
        let handle = world.receive(queue, 1, 30)[0].handle;
        let (first, end) = world.delete(queue, &handle);
        first.expect("it is there");
        let (second, depends_on) = world.delete(queue, &handle);
        second.expect("deleting again succeeds");
        (end, depends_on)
    }
    let (end, depends_on) = run::<Sound>();
    assert!(depends_on >= end);
    let (end, depends_on) = Planted::with(Flaw::ForgetWhatARepeatedDeleteRestsOn, run::<Planted>);
    assert!(depends_on < end);
}

#[test]
fn generations_are_never_used_again() {
    fn run<F: Flaws>() -> (u64, u64) {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a"]);
        let before = world.receive(queue, 1, 30)[0];
        world.delete(queue, &before.handle).0.expect("it is there");
        world.restart();
        world.send(queue, &["b"]);
        let after = world.receive(queue, 1, 30)[0];
        (before.sequence, after.sequence)
    }
    let (before, after) = run::<Sound>();
    assert!(after > before);
    let (before, after) = Planted::with(Flaw::ReuseGenerationsAfterRestart, run::<Planted>);
    assert_eq!(after, before);
}

#[test]
fn queues_are_carried() {
    fn run<F: Flaws>() -> bool {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.clean(usize::MAX);
        world.restart();
        world.engine.counts(queue).is_some()
    }
    assert!(run::<Sound>());
    assert!(!Planted::with(Flaw::LoseQueuesInCleaning, run::<Planted>));
}

#[test]
fn policies_and_tags_are_carried() {
    fn run<F: Flaws>() -> bool {
        let mut world = world::<F>();
        let policy = r#"{"redrivePermission":"denyAll"}"#;
        let policy = Attribute::new(AttributeCode::RedriveAllowPolicy, AttributeValue::Text(policy));
        let queue = world.create_with("q", &[policy]);
        let tags = [tenpin_protocol::Tag { key: "key", value: "value" }];
        world.ask(Command::TagQueue { queue, tags: Entries::of(&tags) });
        world.clean(usize::MAX);
        let digest = world.engine.digest();
        world.recover();
        world.engine.digest() == digest
    }
    assert!(run::<Sound>());
    assert!(!Planted::with(Flaw::LoseDetailsInCleaning, run::<Planted>));
}

#[test]
fn copies_are_linked_by_sequence() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a", "b", "c"]);
        // Start, queue state, "a": the copy of "a" lies behind "b" and "c".
        world.clean(3);
        world.restart();
        world.received(queue, 10, 30)
    }
    assert_eq!(run::<Sound>(), ["a", "b", "c"]);
    assert_eq!(Planted::with(Flaw::LinkCopiesInLogOrder, run::<Planted>), ["b", "c", "a"]);
}

#[test]
fn timers_run_after_a_restart() {
    fn run<F: Flaws>() -> Vec<String> {
        let mut world = world::<F>();
        let queue = world.create("q");
        world.send(queue, &["a"]);
        world.receive(queue, 1, 30);
        world.restart();
        world.advance(30_000, ALL);
        world.received(queue, 1, 30)
    }
    assert_eq!(run::<Sound>(), ["a"]);
    assert!(Planted::with(Flaw::DropTimersAfterRestart, run::<Planted>).is_empty());
}

#[test]
fn what_cannot_be_read_any_more_is_set_aside_and_nothing_else_is_lost() {
    let mut world = world::<Sound>();
    let queue = world.create("here");
    world.send(queue, &["a", "b", "c", "d", "e"]);
    let kept = world.records.len();
    world.send(queue, &["f"]);
    world.lose(kept);
    assert_eq!(world.counts(queue), [1, 0, 0, 5]);
    let digest = world.engine.digest();
    let live_bytes = world.live_bytes();
    world.recover();
    assert_eq!(world.engine.digest(), digest, "the queue and what was set aside outlive a restart");
    assert_eq!(world.live_bytes(), live_bytes);
    world.restart_recovered();
    assert_eq!(world.received(queue, 10, 30), ["f"]);
}
