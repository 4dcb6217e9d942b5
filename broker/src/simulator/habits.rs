//! What clients do while the world is wild.

use tenpin_protocol::{
    Attribute, AttributeCode, AttributeName, AttributeValue, ChangeVisibilityEntry, ChangeVisibilityRequest,
    ContentFields, CreateQueueRequest, DeleteQueueRequest, DeleteRequest, Entries, GetAttributesRequest,
    ListQueuesRequest, OpenRequest, PeekRequest, PurgeRequest, QUEUE_DEFAULT, ReceiveRequest, SendEntry,
    SendRequest, SetAttributesRequest, Tag, write_content,
};

use super::checker::{Settings, group_of};
use super::clients::{Asked, Client, Held};
use super::message::{BODY_BYTES_MIN, write_body};
use super::moving;
use super::world::{Phase, World};
use crate::journal::Durability;

/// Every so many messages one has a trace header behind its body.
pub(super) const TRACED_EVERY: u64 = 5;

/// Does one thing.
pub(super) fn act(client: &mut Client, world: &mut World) {
    if !world.take_request() {
        return;
    }
    if moving::act(client, world) {
        return;
    }
    let name = moving::choose_queue(client);
    let Some(&queue) = client.numbers.get(&name) else { return open(client, world, name) };
    let operations = &client.plan.operations;
    let has_held = |weight: u32| if client.held.is_empty() { 0 } else { weight };
    let takes = !(client.plan.first_only_sends && client.index == 0);
    let weights = [
        operations.send,
        if takes { operations.receive } else { 0 },
        if takes { operations.long_poll } else { 0 },
        has_held(operations.delete),
        if client.deleted.is_empty() { 0 } else { operations.delete_again },
        has_held(operations.change_visibility),
        operations.peek,
        operations.purge,
        operations.delete_queue,
        operations.set_attributes,
        operations.get_attributes,
        operations.list_queues,
        operations.garbage,
    ];
    match client.random.weighted(&weights) {
        Some(0) | None => send(client, world, queue),
        Some(1) => receive(client, world, queue, false),
        Some(2) => receive(client, world, queue, true),
        Some(3) => delete_held(client, world),
        Some(4) => delete_again(client, world),
        Some(5) => change_visibility(client, world),
        Some(6) => peek(client, world, queue),
        // A purge would make a FIFO queue forget what a client may send again.
        Some(7) if world.checker.is_fifo(name) => send(client, world, queue),
        Some(7) if client.plan.spares_cut_purges && world.checker.has_open_purge(queue) => {
            if takes {
                receive(client, world, queue, false)
            } else {
                send(client, world, queue)
            }
        }
        Some(7) => {
            world.checker.purge_began(queue);
            client.ask(world, PurgeRequest { queue }.into(), Asked::Purge { queue });
        }
        Some(8) => {
            world.checker.deletion_began(queue);
            client.ask(world, DeleteQueueRequest { queue }.into(), Asked::DeleteQueue { queue });
        }
        Some(9) => set_attributes(client, world, queue),
        Some(10) => get_attributes(client, world, queue),
        Some(11) => {
            let request = ListQueuesRequest { max: 100, ..Default::default() };
            client.ask(world, request.into(), Asked::List);
        }
        Some(_) => garbage(client, world),
    }
}

/// The name of a queue on the wire.
pub(super) fn queue_name(world: &World, name: usize) -> String {
    if world.checker.is_fifo(name) { format!("queue-{name}.fifo") } else { format!("queue-{name}") }
}

/// Opens or creates a queue.
pub(super) fn open(client: &mut Client, world: &mut World, name: usize) {
    if client.random.chance(1, 3) {
        return open_only(client, world, name);
    }
    let mut policy = None;
    if !moving::add_redrive(client, world, name, &mut policy) {
        return;
    }
    let text = queue_name(world, name);
    let settings = first_settings(client, name);
    let mut attributes = attributes(settings);
    if world.checker.is_fifo(name) {
        attributes.push(Attribute::new(AttributeCode::FifoQueue, AttributeValue::Number(1)));
    }
    attributes.extend(moving::redrive_attribute(&policy));
    // Nothing asks for it: it is part of the state that a restart must give back.
    let tags = [Tag { key: "name", value: &text }];
    let request = CreateQueueRequest {
        name: &text,
        attributes: Entries::of(&attributes),
        tags: Entries::of(&tags),
        ..Default::default()
    };
    client.ask(world, request.into(), Asked::Create { name, settings });
}

/// Opens a queue that may be there.
pub(super) fn open_only(client: &mut Client, world: &mut World, name: usize) {
    let text = queue_name(world, name);
    let request = OpenRequest { name: &text, ..Default::default() };
    let is_last_word = is_last_word(world);
    client.ask(world, request.into(), Asked::Open { name, is_last_word });
}

/// Whether what a queue says of itself now stays true, but for what is taken out.
fn is_last_word(world: &World) -> bool {
    world.phase != Phase::Chaos && !world.checker.has_sends_under_way()
}

/// What all clients create a queue of this name with.
fn first_settings(client: &Client, name: usize) -> Settings {
    let plan = &client.plan;
    Settings {
        retention_seconds: Some(plan.retention_seconds_max),
        visibility_seconds: Some(plan.visibility_seconds_max.min(1 + name as u64)),
        delay_seconds: Some(plan.delay_seconds_max.min(name as u64)),
    }
}

fn attributes<'a>(settings: Settings) -> Vec<Attribute<'a>> {
    let attribute =
        |code, value: Option<u64>| value.map(|value| Attribute::new(code, AttributeValue::Number(value)));
    [
        attribute(AttributeCode::MessageRetentionPeriod, settings.retention_seconds),
        attribute(AttributeCode::VisibilityTimeout, settings.visibility_seconds),
        attribute(AttributeCode::DelaySeconds, settings.delay_seconds),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn send(client: &mut Client, world: &mut World, queue: u64) {
    let Some(queue) = moving::sends_to(client, world, queue) else { return };
    if world.checker.is_fifo_number(queue) {
        return send_fifo(client, world, queue);
    }
    let count = if client.random.chance(1, 2) { 1 } else { client.random.between(2, 10) };
    let mut ids = Vec::new();
    let mut contents = Vec::new();
    for _ in 0..count {
        let id = world.new_message();
        let length = client.random.skewed(BODY_BYTES_MIN as u64, client.plan.body_bytes_max) as usize;
        let delay_max = client.plan.delay_seconds_max;
        let delayed = delay_max > 0 && client.random.chance(1, 3);
        let delay_seconds = delayed.then(|| client.random.skewed(0, delay_max));
        let now_ns = world.now_ns;
        world.checker.send_began(id, queue, length, delay_seconds, now_ns);
        let trace_header = trace_header(id);
        let fields = ContentFields { trace_header: trace_header.as_deref(), ..Default::default() };
        let mut content = Vec::new();
        write_content(&mut content, &write_body(id, length), &fields);
        contents.push((content, length, delay_seconds));
        ids.push((id, false));
    }
    let entries: Vec<SendEntry<'_>> = contents
        .iter()
        .map(|(content, length, delay_seconds)| SendEntry {
            delay_seconds: delay_seconds.map(|seconds| seconds as u32),
            ..SendEntry::with_content(content, *length).expect("the content was just written")
        })
        .collect();
    let request = SendRequest { queue, entries: Entries::of(&entries) };
    client.ask(world, request.into(), Asked::Send { queue, ids });
}

/// How many messages a client keeps in mind to send them again.
const SENT_FIFO_MAX: usize = 20;

/// Sends messages to a FIFO queue, and some again that may have been stored.
fn send_fifo(client: &mut Client, world: &mut World, queue: u64) {
    let count = if client.random.chance(1, 2) { 1 } else { client.random.between(2, 10) };
    let (mut ids, mut contents) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let again = again(client, world, queue);
        let (id, length) = again.unwrap_or_else(|| {
            let length = client.random.skewed(BODY_BYTES_MIN as u64, client.plan.body_bytes_max) as usize;
            (world.new_message(), length)
        });
        if again.is_some() {
            world.checker.repeat_began();
        } else {
            let now_ns = world.now_ns;
            world.checker.send_began(id, queue, length, None, now_ns);
            client.sent_fifo.push_back((queue, id, length));
            if client.sent_fifo.len() > SENT_FIFO_MAX {
                client.sent_fifo.pop_front();
            }
        }
        let (trace_header, group, deduplication_id) = (trace_header(id), group(id), format!("message-{id}"));
        let fields = ContentFields {
            trace_header: trace_header.as_deref(),
            group: Some(&group),
            deduplication_id: Some(&deduplication_id),
            ..Default::default()
        };
        let mut content = Vec::new();
        write_content(&mut content, &write_body(id, length), &fields);
        contents.push((content, length));
        ids.push((id, again.is_some()));
    }
    let entries: Vec<SendEntry<'_>> = contents
        .iter()
        .map(|(content, length)| {
            SendEntry::with_content(content, *length).expect("the content was just written")
        })
        .collect();
    let request = SendRequest { queue, entries: Entries::of(&entries) };
    client.ask(world, request.into(), Asked::Send { queue, ids });
}

/// A message to send again, where the broker must know it: what it acknowledged is never lost, and its
/// time is not changed.
fn again(client: &mut Client, world: &World, queue: u64) -> Option<(u64, usize)> {
    let remembers = world.plan.broker.durability == Durability::Fsync && world.plan.faults.wall_jump_ns == 0;
    if !remembers || world.checker.has_moves() || client.sent_fifo.is_empty() || !client.random.chance(1, 4) {
        return None;
    }
    let place = client.random.below(client.sent_fifo.len() as u64) as usize;
    let (of, id, length) = client.sent_fifo[place];
    (of == queue && world.checker.may_send_again(id, world.now_ns)).then_some((id, length))
}

/// The group that a message is sent to.
pub(super) fn group(id: u64) -> String {
    format!("group-{}", group_of(id))
}

/// The trace header that a message has.
pub(super) fn trace_header(id: u64) -> Option<String> {
    id.is_multiple_of(TRACED_EVERY).then(|| format!("Root=1-{id:x}"))
}

fn receive(client: &mut Client, world: &mut World, queue: u64, waits: bool) {
    let visibility_max = client.plan.visibility_seconds_max;
    let visibility_seconds = client.random.chance(3, 4).then(|| client.random.skewed(0, visibility_max));
    let wait_ms = if waits { client.random.skewed(1, client.plan.wait_ms_max) as u32 } else { 0 };
    let reply_bytes_max = match client.plan.reply_bytes_max {
        Some(most) if client.random.chance(1, 2) => client.random.skewed(100, most.max(100)) as u32,
        _ => u32::MAX,
    };
    let request = ReceiveRequest {
        wait_ms,
        reply_bytes_max,
        visibility_seconds: visibility_seconds.map_or(QUEUE_DEFAULT, |seconds| seconds as u32),
        ..ReceiveRequest::new(queue, client.random.between(1, 10) as u8)
    };
    client.ask(world, request.into(), Asked::Receive { queue, visibility_seconds, reply_bytes_max, wait_ms });
}

fn delete_held(client: &mut Client, world: &mut World) {
    let first = client.random.below(client.held.len() as u64) as usize;
    let queue = client.held[first].queue;
    let most = client.random.between(1, 10) as usize;
    let mut chosen = vec![client.held.swap_remove(first)];
    while chosen.len() < most
        && let Some(index) = client.held.iter().position(|held| held.queue == queue)
    {
        chosen.push(client.held.swap_remove(index));
    }
    delete(client, world, queue, chosen);
}

/// Deletes again what was deleted before, or is being deleted.
fn delete_again(client: &mut Client, world: &mut World) {
    let index = client.random.below(client.deleted.len() as u64) as usize;
    let held = client.deleted[index].clone();
    delete(client, world, held.queue, vec![held]);
}

/// Deletes messages of one queue.
pub(super) fn delete(client: &mut Client, world: &mut World, queue: u64, entries: Vec<Held>) {
    for held in &entries {
        world.checker.delete_began(held.id);
    }
    client.remember_deleted(&entries);
    let handles: Vec<&[u8]> = entries.iter().map(|held| &held.handle[..]).collect();
    let mut again = Vec::new();
    if client.random.chance(1, 6) {
        // The same once more, right behind it and before the first can be durable.
        for held in &entries {
            world.checker.delete_began(held.id);
        }
        again.clone_from(&entries);
    }
    let request = DeleteRequest { queue, handles: Entries::of(&handles) };
    client.ask(world, request.into(), Asked::Delete { queue, entries: entries.clone() });
    if !again.is_empty() {
        client.ask(world, request.into(), Asked::Delete { queue, entries: again });
    }
}

fn change_visibility(client: &mut Client, world: &mut World) {
    let first = client.random.below(client.held.len() as u64) as usize;
    let queue = client.held[first].queue;
    let seconds_max = client.plan.visibility_seconds_max;
    let now_ns = world.now_ns;
    let mut asked = Vec::new();
    let mut handles = Vec::new();
    for held in client.held.iter().skip(first).filter(|held| held.queue == queue).take(3) {
        let seconds = if client.random.chance(1, 3) { 0 } else { client.random.skewed(0, seconds_max) };
        asked.push((held.id, world.checker.change_began(held.id, seconds, now_ns)));
        handles.push((seconds, held.handle.clone()));
    }
    let entries: Vec<ChangeVisibilityEntry<'_>> = handles
        .iter()
        .map(|(seconds, handle)| ChangeVisibilityEntry { visibility_seconds: *seconds as u32, handle })
        .collect();
    let request = ChangeVisibilityRequest { queue, entries: Entries::of(&entries) };
    client.ask(world, request.into(), Asked::Change { queue, entries: asked });
}

fn peek(client: &mut Client, world: &mut World, queue: u64) {
    let max = client.random.between(1, 10) as u8;
    let request = PeekRequest { queue, max, reply_bytes_max: u32::MAX, ..Default::default() };
    client.ask(world, request.into(), Asked::Peek { queue });
}

fn set_attributes(client: &mut Client, world: &mut World, queue: u64) {
    let plan = &client.plan;
    let (retention, visibility, delay) =
        (plan.retention_seconds_max, plan.visibility_seconds_max, plan.delay_seconds_max);
    let random = &mut client.random;
    let mut settings = Settings::default();
    match random.below(3) {
        0 => settings.retention_seconds = Some(random.skewed(60, retention.max(60))),
        1 => settings.visibility_seconds = Some(random.skewed(0, visibility)),
        _ => settings.delay_seconds = Some(random.skewed(0, delay)),
    }
    let now_ns = world.now_ns;
    let change = world.checker.settings_change(queue, settings, now_ns);
    let attributes = attributes(settings);
    let request = SetAttributesRequest { queue, attributes: Entries::of(&attributes) };
    client.ask(world, request.into(), Asked::Set { queue, change });
}

/// Asks for a queue's attributes and counts.
pub(super) fn get_attributes(client: &mut Client, world: &mut World, queue: u64) {
    let names = [AttributeName { number: tenpin_protocol::ALL_ATTRIBUTES }];
    let request = GetAttributesRequest { queue, names: Entries::of(&names) };
    let is_last_word = is_last_word(world);
    client.ask(world, request.into(), Asked::Get { queue, is_last_word });
}

/// Bytes that are no request: noise, or a request with one bit flipped.
fn garbage(client: &mut Client, world: &mut World) {
    let bytes = if client.random.chance(1, 2) {
        let length = client.random.between(1, 100);
        (0..length).map(|_| client.random.bits() as u8).collect()
    } else {
        let mut bytes = Vec::new();
        tenpin_protocol::Request::from(PurgeRequest { queue: 1 }).encode(1, &mut bytes);
        let at = client.random.between(4, bytes.len() as u64 - 1) as usize;
        bytes[at] ^= 1 << client.random.below(8);
        bytes
    };
    client.spoil(world, &bytes);
}
