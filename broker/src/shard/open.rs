//! From a data folder to a shard that can serve: the log is read, the engine is rebuilt from it, and
//! this start's own number is on disk before anything else happens (rule 5).

use crate::clock::Clock;
use crate::engine::{Engine, EngineOptions};
use crate::flaws::Flaws;
use crate::journal::storage::Storage;
use crate::journal::{Durability, Log, LogOptions, OpenError, Progress, RecoveryReport};

use super::driver::Clocks;

/// A shard's state, recovered and ready.
pub struct Opened<F: Flaws> {
    pub(super) clock: Clock,
    pub(crate) engine: Engine<F>,
    pub(super) log: Log<F>,
    /// What recovery found; `None` where there are no files.
    pub report: Option<RecoveryReport>,
}

/// Opens a shard's log in `storage`, or one in memory where the options say so. `epoch` is random,
/// and new at each start.
pub fn open<S: Storage, F: Flaws>(
    storage: &mut S,
    log_options: LogOptions,
    engine_options: EngineOptions,
    clocks: Clocks,
    epoch: [u8; 16],
    progress: &mut dyn FnMut(&Progress),
) -> Result<Opened<F>, OpenError> {
    let mut engine = Engine::new(engine_options);
    if log_options.durability == Durability::Memory {
        let clock = Clock::start(None, clocks);
        let mut log = Log::in_memory(log_options);
        engine.finish_recovery(clock.now_ms(), &mut log).map_err(OpenError::Records)?;
        engine.start(clock.now_ms(), epoch, &mut log);
        return Ok(Opened { clock, engine, log, report: None });
    }
    let (mut log, report) =
        Log::open(storage, log_options, progress, &mut |position, record| engine.replay(position, record))?;
    let clock = Clock::start(report.last_time_ms, clocks);
    engine.finish_recovery(clock.now_ms(), &mut log).map_err(OpenError::Records)?;
    engine.start(clock.now_ms(), epoch, &mut log);
    begin_file(storage, &mut log);
    write_all(storage, &mut log)?;
    Ok(Opened { clock, engine, log, report: Some(report) })
}

/// Makes the file that the start's own records need, where none is spare, but does not wait until it is
/// filled with zeros: the shard sees to that while it serves.
fn begin_file<S: Storage, F: Flaws>(storage: &mut S, log: &mut Log<F>) {
    let Some((file, length)) = log.wants_segment() else { return };
    match storage.begin(file, length) {
        Ok(written) => log.segment_begun(file, written),
        Err(error) => log.segment_prepared(file, Err(error)),
    }
}

/// Writes what the log has gathered, without a driver.
pub(crate) fn write_all<S: Storage, F: Flaws>(storage: &mut S, log: &mut Log<F>) -> Result<(), OpenError> {
    loop {
        while let Some((file, length)) = log.wants_segment() {
            let result = storage.prepare(file, length);
            if let Err(error) = result {
                log.segment_prepared(file, Err(error));
                break;
            }
            log.segment_prepared(file, Ok(()));
        }
        let Some(write) = log.next_write() else {
            // More than a file's beginning has room for: then it is waited for.
            if log.committed() < log.end()
                && let Some((file, _, length)) = log.wants_finishing()
            {
                log.segment_prepared(file, storage.prepare(file, length));
                continue;
            }
            // Nothing more can be written; what is left over has found no file.
            return if log.committed() >= log.end() { Ok(()) } else { Err(OpenError::Full) };
        };
        storage.write(write.file, write.offset, write.bytes.as_ref()).map_err(OpenError::Write)?;
        log.written();
    }
}
