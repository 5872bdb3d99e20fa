"""Redis and RabbitMQ as Dramatiq's brokers, set for rings, and the message that is believed.

- Messages are Dramatiq's JSON, but only the job id is taken from one that is read. Whatever else lies in the queue becomes a call
  of the actor `DROP`. Dramatiq alone would restart its consumer for it, lose what that had fetched and, on Redis, meet it again.
- An acknowledgement that fails is forgotten. Dramatiq would try for ever, and a ring heard twice does no harm.
- Redis notices a dead worker by its silence, RabbitMQ by the lost connection.
"""

import json
import logging
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import dramatiq
import pika
import pika.exceptions
import redis
import structlog
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.bell import BadMessage, UnusableQueueUrl, job_id_from

QUEUE: Final = "distd"
RING: Final = "ring"
DROP: Final = "drop"

#: Redis: a worker silent for so long is dead, and its messages go back, in milliseconds. Dramatiq's minute, together with …
HEARTBEAT_MILLISECONDS: Final = 10_000
#: … a look for the dead at 0.1 % of the commands, meant minutes. This is 10 %, in commands of a million.
MAINTENANCE_CHANCE: Final = 100_000
#: RabbitMQ: AMQP heartbeat in seconds; a peer that is gone is noticed after two of them.
AMQP_HEARTBEAT_SECONDS: Final = 30

_log = structlog.get_logger(__name__)


class Broker(dramatiq.Broker):
    """Dramatiq's, with a way to close the calling thread's connection until it is needed again."""

    def hang_up(self) -> None:
        """Close what this thread has open."""


def open_broker(url: str, *, step_seconds: float) -> Broker:
    """The broker at `url`, not connected yet, waiting at most `step_seconds` for each step; raises `UnusableQueueUrl`."""
    scheme = urlsplit(url).scheme
    try:
        if scheme.startswith("redis"):
            return _Redis(url, step_seconds=step_seconds)
        return _Rabbit(url, step_seconds=step_seconds)
    except ValueError as error:  # not quoted: it may hold the password
        raise UnusableQueueUrl(f"DISTD_QUEUE_URL is no valid {scheme}:// URL") from error


class RingEncoder(dramatiq.JSONEncoder):
    """Dramatiq's JSON; what is read is rebuilt from nothing but the job id."""

    def decode(self, data: bytes) -> dict[str, Any]:
        try:
            fields = json.loads(data)
            job_id = job_id_from(fields["args"][0])
            key = str(fields["options"].get("redis_message_id", ""))
        except (BadMessage, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            return _message(DROP, f"{type(error).__name__}: {error}"[:200], redis_message_id="")
        return _message(RING, job_id, redis_message_id=key)


def _message(actor: str, argument: str, *, redis_message_id: str) -> dict[str, Any]:
    return {
        "queue_name": QUEUE,
        "actor_name": actor,
        "args": [argument],
        "kwargs": {},
        "options": {"redis_message_id": redis_message_id},
        "message_id": str(uuid4()),
    }


class _RedisListener(_RedisConsumer):
    def ack(self, message: dramatiq.MessageProxy) -> None:
        try:
            super().ack(message)  # type: ignore[no-untyped-call]
        except (dramatiq.BrokerConnectionError, redis.RedisError) as error:
            _log.info("ring_not_acknowledged", error=str(error))


class _Redis(RedisBroker, Broker):
    def __init__(self, url: str, *, step_seconds: float) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=redis.Redis.from_url(
                url,
                socket_connect_timeout=step_seconds,
                socket_timeout=step_seconds,
                retry=Retry(NoBackoff(), 1),  # a pooled connection may be one that the server has closed
            ),
            middleware=[],
            namespace=QUEUE,
            heartbeat_timeout=HEARTBEAT_MILLISECONDS,
            maintenance_chance=MAINTENANCE_CHANCE,
        )

    @property
    def consumer_class(self) -> type[_RedisListener]:
        return _RedisListener

    def hang_up(self) -> None:
        self.client.close()

    def close(self) -> None:
        self.client.close()


class _RabbitListener(_RabbitmqConsumer):
    def ack(self, message: dramatiq.MessageProxy) -> None:
        try:
            super().ack(message)  # type: ignore[no-untyped-call]
        except dramatiq.BrokerConnectionError as error:
            _log.info("ring_not_acknowledged", error=str(error))


class _Rabbit(RabbitmqBroker, Broker):
    def __init__(self, url: str, *, step_seconds: float) -> None:
        # Each failed attempt is several lines and a traceback there; `Outage` says it once.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        parameters = pika.URLParameters(url)
        parameters.connection_attempts = 1
        parameters.socket_timeout = step_seconds
        parameters.stack_timeout = step_seconds
        parameters.blocked_connection_timeout = step_seconds
        parameters.heartbeat = AMQP_HEARTBEAT_SECONDS
        super().__init__(middleware=[], confirm_delivery=True)
        self.parameters = parameters

    @property
    def consumer_class(self) -> type[_RabbitListener]:
        return _RabbitListener

    def hang_up(self) -> None:
        del self.connection
