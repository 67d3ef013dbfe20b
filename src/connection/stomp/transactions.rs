//! BEGIN, COMMIT and ABORT: what a transaction gathers, within limits.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::publish::Send;
use super::reply::StompError;
use super::settle::{Settle, not_found};
use super::unsettled::Ledger;
use crate::engine::delivery::Outcome;
use crate::engine::memory::Memory;
use crate::engine::transaction::Transaction;

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Open {
    sends: Vec<Send>,
    bytes: usize,
    /// Deliveries claimed for it, and what becomes of them.
    claims: Vec<(Vec<u64>, Outcome)>,
    /// Receipts of its SENDs: due when it is committed.
    receipts: Vec<Bytes>,
    /// A SEND in it was refused: it can no longer be committed whole.
    failed: bool,
    actions: usize,
}

/// Limits on the transactions of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransactionLimits {
    pub(super) open: usize,
    pub(super) actions: usize,
    pub(super) bytes: usize,
}

/// The open transactions of a connection, by the client's names.
#[derive(Debug)]
pub(super) struct Transactions {
    limits: TransactionLimits,
    open: HashMap<Bytes, Open>,
    bytes: usize,
    /// Where the bytes of open transactions are accounted.
    memory: Arc<Memory>,
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.memory.release(self.bytes as u64);
    }
}

fn unknown(name: &[u8]) -> StompError {
    let name = String::from_utf8_lossy(name);
    StompError::new(
        "Bad transaction",
        "bad_transaction",
        format!("no transaction '{name}' is open on this connection: BEGIN it first\n"),
    )
}

impl Transactions {
    pub(super) fn new(limits: TransactionLimits, memory: Arc<Memory>) -> Self {
        Self {
            limits,
            open: HashMap::new(),
            bytes: 0,
            memory,
        }
    }

    /// BEGIN.
    ///
    /// # Errors
    /// If one of that name is open, or too many are.
    pub(super) fn begin(&mut self, name: Bytes) -> Result<(), StompError> {
        if self.open.contains_key(&name) {
            let name = String::from_utf8_lossy(&name);
            return Err(StompError::new(
                "Bad transaction",
                "bad_transaction",
                format!("transaction '{name}' is open already: COMMIT or ABORT it first\n"),
            ));
        }
        let limit = self.limits.open;
        if self.open.len() >= limit {
            return Err(StompError::new(
                "Transaction limit exceeded",
                "transaction_limit",
                format!(
                    "{limit} transactions are open on this connection, as many as limits.transactions allows\n"
                ),
            ));
        }
        self.open.insert(name, Open::default());
        Ok(())
    }

    fn add(&mut self, name: &[u8], bytes: usize) -> Result<&mut Open, StompError> {
        let limits = self.limits;
        let total = self.bytes + bytes;
        let open = self.open.get_mut(name).ok_or_else(|| unknown(name))?;
        if open.actions >= limits.actions {
            let limit = limits.actions;
            return Err(StompError::new(
                "Transaction too large",
                "transaction_too_large",
                format!("a transaction has at most {limit} actions (limits.transaction_actions)\n"),
            ));
        }
        if total > limits.bytes {
            let limit = limits.bytes;
            return Err(StompError::new(
                "Transaction too large",
                "transaction_too_large",
                format!(
                    "the open transactions of a connection hold at most {limit} bytes (limits.transaction_bytes)\n"
                ),
            ));
        }
        self.bytes = total;
        self.memory.charge(bytes as u64);
        open.actions += 1;
        open.bytes += bytes;
        Ok(open)
    }

    /// A SEND with `transaction`; its receipt is due at COMMIT.
    ///
    /// # Errors
    /// If none of that name is open, or a limit is reached.
    pub(super) fn send(
        &mut self,
        name: &[u8],
        send: Send,
        receipt: Option<Bytes>,
    ) -> Result<(), StompError> {
        let open = self.add(name, send.message.size())?;
        open.sends.push(Send {
            message: send.message.kept(),
            ..send
        });
        open.receipts.extend(receipt);
        Ok(())
    }

    /// A SEND of this transaction was refused: the rest must not be committed without it. Nothing if none of
    /// that name is open.
    pub(super) fn fail(&mut self, name: &[u8]) {
        if let Some(open) = self.open.get_mut(name) {
            open.failed = true;
        }
    }

    /// An ACK or NACK with `transaction`: the deliveries are claimed for it until it ends.
    ///
    /// # Errors
    /// If none of that name is open, a limit is reached, or the delivery is not outstanding.
    pub(super) fn settle(
        &mut self,
        name: &[u8],
        handle: &[u8],
        settle: Settle,
        ledger: &mut Ledger,
    ) -> Result<(), StompError> {
        let open = self.add(name, 0)?;
        let claimed = settle
            .number
            .map(|number| ledger.claim(number))
            .unwrap_or_default();
        if claimed.is_empty() {
            open.actions -= 1;
            return Err(not_found(handle));
        }
        open.claims.push((claimed, settle.outcome));
        Ok(())
    }

    fn take(&mut self, name: &[u8]) -> Result<Open, StompError> {
        let open = self.open.remove(name).ok_or_else(|| unknown(name))?;
        self.bytes -= open.bytes;
        self.memory.release(open.bytes as u64);
        Ok(open)
    }

    /// ABORT: its deliveries are the client's again, unsettled.
    ///
    /// # Errors
    /// If none of that name is open.
    pub(super) fn abort(&mut self, name: &[u8], ledger: &mut Ledger) -> Result<(), StompError> {
        for (claimed, _) in self.take(name)?.claims {
            ledger.release(&claimed);
        }
        Ok(())
    }

    /// COMMIT: the engine's transaction, the deliveries it settles, and the receipts it owes.
    ///
    /// # Errors
    /// If none of that name is open, or a SEND of it was refused: then it is aborted.
    pub(super) fn commit(
        &mut self,
        name: &[u8],
        ledger: &mut Ledger,
    ) -> Result<(Transaction, Vec<u64>, Vec<Bytes>), StompError> {
        let open = self.take(name)?;
        if open.failed {
            for (claimed, _) in &open.claims {
                ledger.release(claimed);
            }
            return Err(StompError::new(
                "Transaction aborted",
                "transaction_aborted",
                "a SEND of this transaction was refused (its ERROR says why), so nothing of it was carried out: BEGIN it again\n",
            ));
        }
        let mut transaction = Transaction::default();
        for send in open.sends {
            transaction.send(send.message, send.mandatory);
        }
        let mut settled = Vec::new();
        for (numbers, outcome) in open.claims {
            for number in &numbers {
                if let Some(unsettled) = ledger.claimed(*number) {
                    transaction.settle(Arc::clone(&unsettled.queue), unsettled.token, outcome);
                }
            }
            settled.extend(numbers);
        }
        Ok((transaction, settled, open.receipts))
    }
}
