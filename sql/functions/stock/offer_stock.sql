-- offer_stock(lines, own, strictly): the units that each line could get now, in the order of ids.
-- `available` is the number that the lines before it leave, `granted` is `available` or the line's
-- quantity, whichever is smaller. The units of `own`, which the caller holds, count as available. A row
-- that is not active has 0 units; unlimited stock has the largest integer for each line, however much is
-- sold and reserved. With `strictly`, a line that check_lines refuses has 0 units, too: so callers need
-- check_lines only if a line is granted too few units.
-- The caller has locked the rows (lock_stock). Locks: nothing more.
create or replace function offer_stock(
    lines stock_line[], own stock_line[] default '{}', strictly boolean default false
)
returns stock_offer[]
language sql stable
set search_path from current
as $$
    with room as (
        select l.product_id, l.variant_id, l.quantity,
               coalesce(v.price, p.base_price) as price,
               case when p.id is null or p.status <> 'active' then 0
                    when strictly and (p.has_variants and l.variant_id is null
                                       or sum(l.quantity) over (partition by l.product_id)
                                          > p.max_per_order) then 0
                    else p.available_quantity
                         + coalesce((select sum(o.quantity) from unnest(own) o
                                      where o.product_id = p.id), 0)
               end as in_product,  -- NULL: unlimited
               case when l.variant_id is null then null
                    when v.id is null or v.status <> 'active' then 0
                    else v.available_quantity
                         + coalesce((select sum(o.quantity) from unnest(own) o
                                      where o.variant_id = v.id), 0)
               end as in_variant
          from unnest(lines) l
          left join products p on p.id = l.product_id
          left join variants v on v.id = l.variant_id and v.product_id = l.product_id),
    left_over as (
        select r.*,
               greatest(0, least(2147483647, r.in_variant, r.in_product
                   - coalesce(sum(least(r.quantity, r.in_variant)) over
                              (partition by r.product_id order by r.variant_id
                               rows between unbounded preceding and 1 preceding),
                              0))) as units
          from room r)
    select array_agg((product_id, variant_id, quantity, units, least(quantity, units),
                      price)::stock_offer
                     order by product_id, variant_id)
      from left_over
$$;
