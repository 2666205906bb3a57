-- A payment that became no order is money for which nobody gets anything: staff must hear of it.
-- Its alert has the level 'payment' and, as its source, the payment's reference.
alter table stock_alerts
    drop constraint stock_alerts_level_is_known,
    add constraint stock_alerts_level_is_known
        check (level in ('low', 'out', 'back', 'shortfall', 'payment', 'sync', 'lag'));
