-- offer_stock(lines, own, strictly): what of each line could be taken now, in the order of ids:
-- `available` is what is left for the line after those before it, `granted` the part of it that
-- the line asks for. What the caller holds itself, `own`, counts as available. What is not active
-- has nothing; unlimited stock has the largest integer for each line, whatever is sold and held.
-- With `strictly`, what check_lines refuses has nothing either: so it has to be called only where a
-- line is granted too little.
-- Wants the rows locked (lock_stock). Locks: none.
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
