-- follow_variants(log_ids): if a product's max_quantity was the sum of its variants', it stays that sum;
-- any other max is the product's own limit and does not change. log_variant_changes calls it with the log
-- rows of the variants whose max has changed, so it covers every writer: an import, an UPDATE, psql.
-- If the file of an import gives a product's max, the file's value stays: the import says so by
-- set_config('stream_server.keep_product_max', 'on', true).
-- Locks: nothing beyond the products, which number_variant_change has locked.
-- Raises: 23514 if more of the product is sold and reserved than would be left.
create or replace function follow_variants(log_ids bigint[]) returns void
language plpgsql
set search_path from current
as $$
begin
    if current_setting('stream_server.keep_product_max', true) = 'on' then
        return;
    end if;
    with changed as (
        select l.product_id, l.variant_id, l.max_before, l.sold_before is null as is_new
          from inventory_log l
         where l.id = any (log_ids)),
    sums as (
        select v.product_id,
               case when bool_and(c.variant_id is null and v.max_quantity is not null
                                  or c.max_before is not null)
                         filter (where c.is_new is not true)
                    then sum(case when c.variant_id is null then v.max_quantity
                                  else c.max_before end)
                         filter (where c.is_new is not true) end as before,
               case when bool_and(v.max_quantity is not null)
                    then sum(v.max_quantity) end as now
          from variants v
          left join changed c on c.variant_id = v.id
         where v.product_id in (select product_id from changed)
         group by v.product_id)
    update products p
       set max_quantity = s.now
      from sums s
     where p.id = s.product_id
       and p.max_quantity = s.before
       and p.max_quantity is distinct from s.now;
end
$$;
