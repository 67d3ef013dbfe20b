//! Request and reply: `/temp-queue/` and `/temp-topic/` in `reply-to`.

use std::sync::Arc;

use bytes::Bytes;

use super::client::LoggedIn;
use super::deliver;
use super::destination::Destination;
use super::reply::{StompError, from_engine};
use super::subscription::{AckMode, Subscription, SubscriptionKey};
use crate::engine::arguments::Arguments;
use crate::engine::name::QueueName;
use crate::engine::queue::{ConsumerSpec, Durability, Queue, QueueSpec};
use crate::engine::turn::Turn;
use crate::engine::vhost::Mismatch;

/// What `reply-to` may start with and be left alone.
const PLACES: [&[u8]; 5] = [
    b"/exchange/",
    b"/topic/",
    b"/queue/",
    b"/amq/queue/",
    b"/reply-queue/",
];

impl LoggedIn {
    /// The key under which a `/temp-topic/` of this connection is published.
    pub(super) fn temp_topic_key(&self, name: &[u8]) -> Bytes {
        [b"stomp.temp-", self.session.as_bytes(), b".", name]
            .concat()
            .into()
    }

    /// What the receiver of a message is to see as its `reply-to`; `None` if it is right as it stands.
    ///
    /// # Errors
    /// What the engine refused when the private queue was to be made.
    pub(super) fn reply_to(
        &mut self,
        turn: &mut Turn<'_>,
        text: &[u8],
    ) -> Result<Option<Bytes>, StompError> {
        if text.starts_with(b"/temp-queue/") || text.starts_with(b"/temp-topic/") {
            return match Destination::parse(text)? {
                Destination::TempQueue(_) => {
                    let queue = self.reply_queue(turn, text)?;
                    Ok(Some([b"/reply-queue/", queue.as_bytes()].concat().into()))
                }
                Destination::TempTopic(name) => Ok(Some(
                    [b"/topic/".as_slice(), &self.temp_topic_key(&name)]
                        .concat()
                        .into(),
                )),
                _ => Ok(None),
            };
        }
        let placed = PLACES.iter().any(|place| text.starts_with(place));
        Ok((!placed).then(|| [b"/reply-queue/", text].concat().into()))
    }

    /// The private queue behind `/temp-queue/<name>`, made and subscribed on first use.
    ///
    /// Replies arrive as MESSAGEs whose `subscription` is the `/temp-queue/` text itself.
    fn reply_queue(&mut self, turn: &mut Turn<'_>, text: &[u8]) -> Result<QueueName, StompError> {
        if let Some(queue) = self.reply_queues.get(text) {
            return Ok(queue.name().clone());
        }
        self.check_subscription_count()?;
        let name = self.generated_name("stomp.gen-");
        let spec = QueueSpec {
            durability: Durability::Transient,
            exclusive: Some(self.principal.owner),
            auto_delete: true,
            arguments: Arguments::default(),
        };
        let declared =
            self.vhost
                .declare_queue(turn, &self.principal, &name, &spec, Mismatch::Error);
        let queue = declared.map_err(|error| from_engine(&error))?.queue;
        if let Err(error) = self.principal.check_read(&queue) {
            self.vhost.delete_exclusive(turn, &queue);
            return Err(from_engine(&error));
        }
        let tag = self.subscriptions.next_tag();
        let spec = ConsumerSpec {
            tag,
            acknowledges: false,
            prefetch: 0,
            priority: 0,
            exclusive: true,
        };
        let consumer = queue
            .subscribe(turn, spec, Arc::clone(&self.outbox))
            .map_err(|error| from_engine(&error))?;
        let text = Bytes::copy_from_slice(text);
        self.exclusive.push(Arc::clone(&queue));
        self.reply_queues.insert(text.clone(), Arc::clone(&queue));
        self.subscriptions.insert(
            tag,
            Subscription {
                head: deliver::head(self.version, Some(&text)),
                // Not a name that UNSUBSCRIBE can say: it goes with the connection.
                key: SubscriptionKey::Id(text),
                queue,
                consumer,
                ack: AckMode::Auto,
                deletable: false,
            },
        );
        Ok(name)
    }
}
