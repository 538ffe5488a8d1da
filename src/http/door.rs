//! The doors: listeners with their own audience, threads and limits.

/// A door. All except the exchange door are open by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// For residents' phones: shows codes.
    Resident,
    /// For gates: scans codes.
    Gate,
    /// For residents, organisations and staff: records, grants, family.
    Desk,
    /// For authorities and operators: feeds, metrics, readiness.
    Ops,
    /// For services of other issuers. Closed by default.
    Exchange,
}

impl Door {
    /// The doors that are open by default.
    pub const ALL: [Door; 4] = [Door::Resident, Door::Gate, Door::Desk, Door::Ops];

    /// Returns the name in settings, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Door::Resident => "resident",
            Door::Gate => "gate",
            Door::Desk => "desk",
            Door::Ops => "ops",
            Door::Exchange => "exchange",
        }
    }

    /// Returns the door with a name; `back` also names the operations door.
    pub fn named(name: &str) -> Option<Door> {
        match name {
            "back" => Some(Door::Ops),
            _ => Door::ALL.into_iter().find(|door| door.name() == name),
        }
    }
}
