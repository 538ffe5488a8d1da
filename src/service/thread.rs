//! The service of one thread: its counts, nonces and budgets.

use super::limits::full_budget;
use super::state::AppState;
use crate::admission::budget::Budget;
use crate::admission::bytes::ByteBudget;
use crate::clock::Time;
use crate::desk::Desk;
use crate::desk::grant_scan_notices::SeenGrants;
use crate::meters::ThreadMetrics;
use crate::seal::Nonces;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

/// Answers with public keys that each thread of a door gives in a second.
const LISTS_PER_SECOND: u32 = 200;

/// Foreign signatures that each thread of a door checks in a second for single scans. Each takes about 0.1 ms.
const FOREIGN_PER_SECOND: u32 = 500;

/// The service of one thread.
pub struct Service {
    /// State shared by all threads.
    pub app: Arc<AppState>,
    /// The counts of this thread.
    pub metrics: Arc<ThreadMetrics>,
    pub(super) nonces: Nonces,
    pub(super) page_budget: RefCell<Budget>,
    /// Budget of assets requested by version. Separate, so that a client with a page gets its assets whatever others request.
    pub(super) part_budget: RefCell<Budget>,
    pub(super) grants_seen: RefCell<SeenGrants>,
    pub(super) offline_budget: RefCell<Budget>,
    pub(super) foreign_budget: RefCell<Budget>,
    pub(super) list_budget: RefCell<Budget>,
    pub(super) list_bytes: RefCell<ByteBudget>,
}

impl Service {
    /// Returns the service of one thread.
    pub fn new(app: Arc<AppState>) -> Service {
        let page_budget = full_budget(app.settings.pages_per_second, Instant::now());
        Service {
            page_budget: RefCell::new(page_budget),
            part_budget: RefCell::new(page_budget),
            grants_seen: RefCell::default(),
            foreign_budget: RefCell::new(full_budget(FOREIGN_PER_SECOND, Instant::now())),
            list_budget: RefCell::new(full_budget(LISTS_PER_SECOND, Instant::now())),
            list_bytes: RefCell::new(ByteBudget::new(
                app.settings.lists.bytes_per_second,
                Instant::now(),
            )),
            offline_budget: RefCell::new(full_budget(
                (app.settings.offline.as_ref()).map_or(0, |offline| offline.codes_per_second),
                Instant::now(),
            )),
            metrics: app.meters.metrics(),
            app,
            nonces: Nonces::new(),
        }
    }

    /// Returns the desk for one request.
    pub(super) fn desk(&self, now: Time) -> Desk<'_> {
        let AppState {
            seal,
            store_client,
            platform,
            audit,
            revoked_grants,
            settings,
            offline,
            ..
        } = &*self.app;
        Desk {
            offline: offline.as_deref(),
            seal,
            store_client,
            platform,
            audit,
            revoked_grants,
            nonces: &self.nonces,
            settings: &settings.desk,
            now,
        }
    }
}
