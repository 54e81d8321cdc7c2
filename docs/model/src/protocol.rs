//! The steps of the system, and which are possible in a state. A step that is not possible returns no state.

use stateright::{Model, Property};

use crate::promises;
use crate::state::{InstanceId, MESSAGES, Message, State};
use crate::variants::Variant;

/// The system, with its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub instances: usize,
    pub messages: usize,
    /// No further owner takes the shard.
    pub epochs: u8,
    /// So many stops and faults may happen.
    pub events: u8,
    /// How long a lease lasts from its renewal, in ticks.
    pub lease: i8,
    /// Requests for renewals and their answers are steps. If not, all leases of running owners are renewed in each tick, or none.
    pub has_renewals: bool,
    /// How long a taker waits after an unclean end. So long an aborted attempt may still be on its way to the receiver.
    pub pause: i8,
    pub variant: Variant,
    /// States that differ only by which instance is which count as one. Traces then change the instances' numbers.
    pub is_symmetric: bool,
    /// Only this promise is checked: the search ends with its shortest trace.
    pub promise: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Tick,
    TickWithoutRenewals,
    AskForShard(InstanceId),
    TakeShard(InstanceId),
    LearnTaken(InstanceId),
    AskForRenewal(InstanceId),
    Renew(InstanceId),
    LearnRenewed(InstanceId),
    EndLease(InstanceId),
    GiveUp(InstanceId),
    Stop(InstanceId),
    EndGrace(InstanceId),
    Release(InstanceId),

    Consume(InstanceId),
    Receive(InstanceId),
    Acknowledge(InstanceId, Message),
    EndSession,
    BeginAttempt(InstanceId),
    Arrive(InstanceId),
    Confirm(InstanceId),
    Refuse(InstanceId),
    /// By the place in [`late`](crate::state::Receiver::late).
    ArriveLate(usize),

    WriteRow(InstanceId),
    WriteRemoval(InstanceId),
    /// By the place in [`transactions`](State::transactions), as the next two.
    Execute(usize),
    Commit(usize),
    EndBackend(usize),
    SendCommit(InstanceId),
    LearnWritten(InstanceId),
    Recover(InstanceId),

    Crash(InstanceId),
    Suspend(InstanceId),
    WakeUp(InstanceId),
    LoseConnection(InstanceId),
    ForgetRequest(InstanceId),
    RestartDatabase,
    /// Only in variants: clocks that are wrong.
    SetClockBack(InstanceId),
    SetDatabaseClockForward,
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.instances, self.messages, self.events)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.extend([
            Step::Tick,
            Step::TickWithoutRenewals,
            Step::EndSession,
            Step::RestartDatabase,
            Step::SetDatabaseClockForward,
        ]);
        for id in 0..self.instances {
            let of_instance = [
                Step::AskForShard,
                Step::TakeShard,
                Step::LearnTaken,
                Step::AskForRenewal,
                Step::Renew,
                Step::LearnRenewed,
                Step::EndLease,
                Step::GiveUp,
                Step::Stop,
                Step::EndGrace,
                Step::Release,
                Step::Consume,
                Step::Receive,
                Step::BeginAttempt,
                Step::Arrive,
                Step::Confirm,
                Step::Refuse,
                Step::WriteRow,
                Step::WriteRemoval,
                Step::SendCommit,
                Step::LearnWritten,
                Step::Recover,
                Step::Crash,
                Step::Suspend,
                Step::WakeUp,
                Step::LoseConnection,
                Step::ForgetRequest,
                Step::SetClockBack,
            ];
            steps.extend(of_instance.map(|step| step(id)));
            steps.extend((0..MESSAGES).map(|message| Step::Acknowledge(id, message)));
        }
        for at in 0..state.transactions.len() {
            steps.extend([Step::Execute(at), Step::Commit(at), Step::EndBackend(at)]);
        }
        steps.extend((0..state.receiver.late.len()).map(Step::ArriveLate));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = match step {
            Step::Tick => self.tick(state),
            Step::TickWithoutRenewals => self.tick_without_renewals(state),
            Step::AskForShard(id) => self.ask_for_shard(state, id),
            Step::TakeShard(id) => self.take_shard(state, id),
            Step::LearnTaken(id) => self.learn_taken(state, id),
            Step::AskForRenewal(id) => self.ask_for_renewal(state, id),
            Step::Renew(id) => self.renew(state, id),
            Step::LearnRenewed(id) => self.learn_renewed(state, id),
            Step::EndLease(id) => self.end_lease(state, id),
            Step::GiveUp(id) => self.give_up(state, id),
            Step::Stop(id) => Self::stop(state, id),
            Step::EndGrace(id) => self.end_grace(state, id),
            Step::Release(id) => self.release(state, id),

            Step::Consume(id) => Self::consume(state, id),
            Step::Receive(id) => Self::receive(state, id),
            Step::Acknowledge(id, message) => Self::acknowledge(state, id, message),
            Step::EndSession => Self::end_session(state),
            Step::BeginAttempt(id) => self.begin_attempt(state, id),
            Step::Arrive(id) => Self::arrive(state, id),
            Step::Confirm(id) => Self::confirm(state, id),
            Step::Refuse(id) => Self::refuse(state, id),
            Step::ArriveLate(at) => Some(Self::arrive_late(state, at)),

            Step::WriteRow(id) => self.write_row(state, id),
            Step::WriteRemoval(id) => Self::write_removal(state, id),
            Step::Execute(at) => self.execute(state, at),
            Step::Commit(at) => self.commit(state, at),
            Step::EndBackend(at) => Self::end_backend(state, at),
            Step::SendCommit(id) => Self::send_commit(state, id),
            Step::LearnWritten(id) => Self::learn_written(state, id),
            Step::Recover(id) => self.recover(state, id),

            Step::Crash(id) => self.crash(state, id),
            Step::Suspend(id) => Self::suspend(state, id),
            Step::WakeUp(id) => Self::wake_up(state, id),
            Step::LoseConnection(id) => Self::lose_connection(state, id),
            Step::ForgetRequest(id) => self.forget_request(state, id),
            Step::RestartDatabase => Self::restart_database(state),
            Step::SetClockBack(id) => self.set_clock_back(state, id),
            Step::SetDatabaseClockForward => self.set_database_clock_forward(state),
        }?;
        Some(if self.is_symmetric { next.canonical() } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let properties = match self.variant {
            Variant::AsDesigned => [promises::promises(), promises::situations()].concat(),
            _ => promises::promises(),
        };
        let is_checked = |property: &Property<Self>| self.promise.is_none_or(|only| property.name == only);
        properties.into_iter().filter(is_checked).collect()
    }
}
