"""The topics: which subscribers show which products.

A shop's pages show thousands of different sets of products, most of them to a single visitor. So a
set is kept as a tuple and its memberships as lists: a Python set of two dozen members takes two
kilobytes.
"""

from __future__ import annotations

from stream_server.streaming.subscriber import Ids, Subscriber, Topic

__all__ = ["Topics"]


class _Watchers(list[Topic]):
    """The topics that show a product. Topics without subscribers are removed when they are more
    than half, so that the cost of leaving does not grow with the number of topics."""

    __slots__ = ("gone",)

    def __init__(self, topic: Topic) -> None:
        super().__init__((topic,))
        self.gone = 0


class Topics:
    """Every topic that has a subscriber."""

    def __init__(self) -> None:
        self._by_ids: dict[Ids, Topic] = {}
        self._watchers: dict[str, _Watchers] = {}

    def __len__(self) -> int:
        return len(self._by_ids)

    def join(self, subscriber: Subscriber, ids: Ids) -> Topic:
        """Registers a subscriber, and returns its topic."""
        topic = self._by_ids.get(ids)
        if topic is None:
            topic = self._by_ids[ids] = Topic(ids)
            for product_id in ids or ():
                watchers = self._watchers.get(product_id)
                if watchers is None:
                    self._watchers[product_id] = _Watchers(topic)
                else:
                    watchers.append(topic)
        topic.subscribers.add(subscriber)
        return topic

    def leave(self, subscriber: Subscriber, topic: Topic) -> None:
        """Forgets a subscriber, and its topic if that was its last one."""
        topic.subscribers.discard(subscriber)
        if topic.subscribers:
            return
        del self._by_ids[topic.ids]
        for product_id in topic.ids or ():
            watchers = self._watchers[product_id]
            watchers.gone += 1
            if watchers.gone == len(watchers):
                del self._watchers[product_id]
            elif watchers.gone * 2 > len(watchers):
                watchers[:] = [each for each in watchers if each.subscribers]
                watchers.gone = 0

    def of(self, product_id: str) -> list[Topic]:
        """The topics that show a product."""
        topics = [topic for topic in self._watchers.get(product_id, ()) if topic.subscribers]
        catalogue = self._by_ids.get(None)
        if catalogue is not None:
            topics.append(catalogue)
        return topics

    def is_watched(self, product_id: str) -> bool:
        """Whether any topic shows it."""
        return product_id in self._watchers or None in self._by_ids
