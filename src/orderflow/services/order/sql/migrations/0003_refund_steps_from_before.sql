-- Refunds that began before their steps were kept: the history says what made them due, the inbox what has paid them back.

INSERT INTO order_refunds (order_id, version, refund, event, cause, at)
SELECT step.order_id, step.version, step.refund, step.event, step.cause, step.at
FROM (
    SELECT order_id, version, 'due' AS refund, event, cause, at
    FROM order_history AS failed
    WHERE event = 'StockRejected' AND NOT EXISTS (
        SELECT FROM processed_events AS paid_back
        WHERE paid_back.key = failed.order_id::text AND paid_back.consumer = 'order'
            AND paid_back.identity = 'orderflow.PaymentRefunded' AND paid_back.at < failed.at
    )
    UNION ALL
    SELECT key::uuid,
        (SELECT coalesce(max(version), 1) FROM order_history WHERE order_id = paid_back.key::uuid AND at <= paid_back.at),
        'done', 'PaymentRefunded', event_id, at
    FROM processed_events AS paid_back
    WHERE consumer = 'order' AND identity = 'orderflow.PaymentRefunded' AND state = 1
) AS step
JOIN orders USING (order_id)
WHERE orders.refund <> 'none'
    AND NOT EXISTS (SELECT FROM order_refunds WHERE order_refunds.order_id = step.order_id)
ORDER BY step.at, step.version, step.refund DESC;
