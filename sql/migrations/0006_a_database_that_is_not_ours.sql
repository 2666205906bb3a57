-- What a database needs that is shared with other programs.

-- What an ordinary role could not say with ALTER DATABASE … SET, which takes a superuser for
-- parameters of our own. notify_mode: when writers call NOTIFY (announce_changes.sql).
create table stream_settings (
    name  text primary key,
    value text not null,
    constraint stream_settings_notify_mode_is_known
        check (name <> 'notify_mode' or value in ('when_asleep', 'always', 'never'))
);

insert into stream_settings values ('notify_mode', 'when_asleep');

-- Products and variants alike: the columns whose changes count, as the log has them.
create view stock_states as
select id as product_id, null as variant_id, max_quantity, sold_quantity, reserved_quantity,
       available_quantity, status, base_price as price, name, low_stock_threshold
  from products
union all
select product_id, id, max_quantity, sold_quantity, reserved_quantity,
       available_quantity, status, price, variant_value, low_stock_threshold
  from variants;
