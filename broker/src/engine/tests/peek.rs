//! Looks at messages.

use super::*;

#[test]
fn peek_shows_all_in_pages_and_changes_nothing() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let bodies: Vec<String> = (0..25).map(|number| format!("m{number:02}")).collect();
    for bodies in bodies.chunks(5) {
        let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
        world.send(queue, &bodies);
        world.now_ms += 1;
    }
    world.receive(queue, 3, 30);
    world.receive(queue, 2, 0);
    let before = world.engine.digest();
    let (mut seen, mut next) = (Vec::new(), None::<Box<[u8]>>);
    loop {
        let command =
            Command::Peek { queue, count_max: 4, state: 0, next: next.as_deref(), reply_bytes_max: u32::MAX };
        let ReplyBody::Peeked(range, more) = world.ask(command).body else { panic!("a peek") };
        let shown = world.out.deliveries[range.start as usize..range.end as usize].to_vec();
        seen.extend(shown.iter().map(|delivery| world.body(delivery)));
        next = more;
        if next.is_none() {
            break;
        }
    }
    // Visible from the times of sending on, then the two that came back, then those in flight.
    let mut expected: Vec<String> = bodies[5..].to_vec();
    expected.extend(bodies[3..5].iter().cloned());
    expected.extend(bodies[..3].iter().cloned());
    assert_eq!(seen, expected);
    assert_eq!(world.engine.digest(), before);
}

#[test]
fn a_further_page_shows_nothing_that_was_purged_nor_of_another_queue() {
    let mut world = world::<Sound>();
    let (purged, other) = (world.create("purged"), world.create("other"));
    for queue in [purged, other] {
        world.send(queue, &["a", "b", "c", "d"]);
    }
    let peek = |queue, next| Command::Peek { queue, count_max: 2, state: 0, next, reply_bytes_max: u32::MAX };
    let ReplyBody::Peeked(_, next) = world.ask(peek(purged, None)).body else { panic!("a peek") };
    let next = next.expect("there is more");
    let ReplyBody::Peeked(range, _) = world.ask(peek(other, Some(&next))).body else { panic!("a peek") };
    let shown = &world.out.deliveries[range.start as usize..range.end as usize];
    assert!(shown.iter().all(|delivery| delivery.slot >= 4), "{shown:?}");
    world.ask(Command::Purge { queue: purged });
    // Nothing of it has been swept yet.
    let ReplyBody::Peeked(range, _) = world.ask(peek(purged, Some(&next))).body else { panic!("a peek") };
    assert!(range.is_empty());
}

#[test]
fn pages_go_on_behind_a_message_that_came_back_in_a_long_backlog() {
    let mut world = world::<Sound>();
    let queue = world.create("q");
    let bodies: Vec<String> = (0..5_000).map(|number| format!("m{number}")).collect();
    for bodies in bodies.chunks(10) {
        let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
        world.send(queue, &bodies);
    }
    world.now_ms += 1;
    world.receive(queue, 1, 0);
    world.now_ms += 1;
    world.send(queue, &["last"]);
    let (mut seen, mut next, mut pages) = (Vec::new(), None::<Box<[u8]>>, 0);
    loop {
        // The one that came back is the five thousandth, with which a page ends.
        let command =
            Command::Peek { queue, count_max: 8, state: 0, next: next.as_deref(), reply_bytes_max: u32::MAX };
        let ReplyBody::Peeked(range, more) = world.ask(command).body else { panic!("a peek") };
        let shown = world.out.deliveries[range.start as usize..range.end as usize].to_vec();
        seen.extend(shown.iter().map(|delivery| world.body(delivery)));
        next = more;
        pages += 1;
        if next.is_none() {
            break;
        }
        assert!(pages < 1_000, "{} of 5,001 are shown", seen.len());
    }
    let mut expected = bodies[1..].to_vec();
    expected.extend([bodies[0].clone(), "last".to_owned()]);
    assert_eq!(seen, expected);
}
