//! The doors by name: a door is a listener with its own audience, threads and limits.

/// The doors. All but the exchange door are open unless the settings say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// For residents' phones, which show codes.
    Resident,
    /// For gates, which scan codes.
    Gate,
    /// For residents, organisations and staff: records, grants, family.
    Desk,
    /// For authorities and operators: feeds, metrics, health.
    Ops,
    /// For services of other issuers; open only where it is set.
    Exchange,
}

impl Door {
    /// The doors that are open unless the settings say otherwise.
    pub const ALL: [Door; 4] = [Door::Resident, Door::Gate, Door::Desk, Door::Ops];

    /// Returns the name that settings, metrics and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Door::Resident => "resident",
            Door::Gate => "gate",
            Door::Desk => "desk",
            Door::Ops => "ops",
            Door::Exchange => "exchange",
        }
    }

    /// Returns the door of a name; `back` is another name of the operations door.
    pub fn named(name: &str) -> Option<Door> {
        match name {
            "back" => Some(Door::Ops),
            _ => Door::ALL.into_iter().find(|door| door.name() == name),
        }
    }
}
