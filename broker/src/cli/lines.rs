//! Sending a message a line, at full speed.
//!
//! A thread reads lines ahead, a bounded number of bytes; a producer gathers them into batches; what is
//! acknowledged is printed in the order of the lines. A line that is refused ends the command once all
//! before it are acknowledged, and says which line it was.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

use tenpin_broker::exit::{ExitReason, Failure};
use tenpin_client::{Error, Queue, Sending};
use tokio::sync::mpsc;

use super::messages::{SendFlags, print_sent};
use super::output::{is_watched, line};
use super::{Common, failure};

/// Lines that are read ahead.
const LINES_AHEAD: usize = 4_096;
/// Bytes of a line with its end; a longer one is no message and ends the command.
const LINE_BYTES_MAX: u64 = (1 << 20) + 3;
/// Sends that may be under way; more wait for the oldest.
const SENDING_MAX: usize = 8_192;

/// A line, with its file and its number there.
struct Line {
    place: String,
    bytes: Vec<u8>,
}

/// Sends each line of the files, or of standard input.
pub async fn send(
    queue: &Queue,
    common: &Common,
    flags: &SendFlags,
    files: &[PathBuf],
) -> Result<(), Failure> {
    let mut lines = read_ahead(files);
    let producer = queue.producer().start();
    let mut sending: VecDeque<(String, Sending)> = VecDeque::new();
    let bar = is_watched().then(progress_bar);
    let mut sent = 0_u64;
    let mut acknowledged = async |place: String, sending: Sending| -> Result<(), Failure> {
        let result = sending.await.map_err(|error| refused(&place, error))?;
        sent += 1;
        if let Some(bar) = &bar {
            bar.set_position(sent);
        }
        if common.json { print_sent(&result, common) } else { Ok(()) }
    };
    while let Some(line) = lines.recv().await {
        let Line { place, bytes } = line?;
        if bytes.is_empty() {
            continue;
        }
        let message = flags.message(bytes);
        match producer.enqueue(message).await {
            Ok(next) => sending.push_back((place, next)),
            Err(error) => {
                for (place, sending) in sending {
                    acknowledged(place, sending).await?;
                }
                return Err(refused(&place, error));
            }
        }
        while sending.len() > SENDING_MAX
            && let Some((place, oldest)) = sending.pop_front()
        {
            acknowledged(place, oldest).await?;
        }
    }
    for (place, sending) in sending {
        acknowledged(place, sending).await?;
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    if common.json { Ok(()) } else { line(&format!("{sent} sent")) }
}

fn refused(place: &str, error: Error) -> Failure {
    let Failure { reason, text, .. } = failure(error);
    Failure::new(reason, format!("{place}: {text}"))
}

fn progress_bar() -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{spinner} {human_pos} sent, {per_sec}, {elapsed}");
    let bar = indicatif::ProgressBar::new_spinner();
    let bar = match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    // It is drawn from here on.
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Reads on a thread of its own, since files and standard input block.
fn read_ahead(files: &[PathBuf]) -> mpsc::Receiver<Result<Line, Failure>> {
    let (give, take) = mpsc::channel(LINES_AHEAD);
    let files = if files.is_empty() { vec![PathBuf::from("-")] } else { files.to_vec() };
    std::thread::spawn(move || {
        for path in files {
            let name = if path.as_os_str() == "-" {
                "standard input".to_owned()
            } else {
                path.display().to_string()
            };
            let opened: io::Result<Box<dyn BufRead>> = if path.as_os_str() == "-" {
                Ok(Box::new(BufReader::new(io::stdin())))
            } else {
                File::open(&path)
                    .map(|file| Box::new(BufReader::with_capacity(256 << 10, file)) as Box<dyn BufRead>)
            };
            let result = opened.and_then(|input| give_lines(input, &name, &give));
            match result {
                Ok(true) => {}
                // Nobody takes lines any more.
                Ok(false) => return,
                Err(error) => {
                    let failure = Failure::new(ExitReason::Usage, format!("{name} cannot be read: {error}"));
                    // The same here.
                    let _ = give.blocking_send(Err(failure));
                    return;
                }
            }
        }
    });
    take
}

fn give_lines(
    mut input: Box<dyn BufRead>,
    name: &str,
    give: &mpsc::Sender<Result<Line, Failure>>,
) -> io::Result<bool> {
    for number in 1_u64.. {
        let mut bytes = Vec::new();
        if (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(true);
        }
        if bytes.len() as u64 == LINE_BYTES_MAX {
            return Err(io::Error::other(format!("line {number} is longer than a message may be (1 MiB)")));
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if give.blocking_send(Ok(Line { place: format!("{name}, line {number}"), bytes })).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}
