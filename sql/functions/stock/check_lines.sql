-- check_lines(lines): checks that a shopper may order these lines, however much is in stock.
-- The caller has locked the rows (lock_stock). Locks: nothing more.
-- Raises: SS002 for a product or variant that does not exist, is a draft, or is the variant of another
-- product; SS001 for a product with variants without variantId; SS012 for more units than max_per_order.
create or replace function check_lines(lines stock_line[]) returns void
language plpgsql
set search_path from current
as $$
declare
    wrong record;
begin
    select l.product_id, l.variant_id, p.id is null or p.status = 'draft' as no_product
      into wrong
      from unnest(lines) l
      left join products p on p.id = l.product_id
      left join variants v on v.id = l.variant_id and v.product_id = l.product_id
     where p.id is null or p.status = 'draft'
        or (l.variant_id is null and p.has_variants)
        or (l.variant_id is not null and (v.id is null or v.status = 'draft'))
     order by l.product_id, l.variant_id
     limit 1;
    if found then
        if not wrong.no_product and wrong.variant_id is null then
            perform refuse_field('variantId', format('given for %s, which has variants',
                                                     wrong.product_id));
        end if;
        raise exception 'there is no % %',
            case when wrong.no_product then 'product' else 'variant' end,
            case when wrong.no_product then wrong.product_id else wrong.variant_id end
            using errcode = 'SS002',
                  detail = jsonb_strip_nulls(jsonb_build_object(
                      'productId', wrong.product_id,
                      'variantId', case when not wrong.no_product then wrong.variant_id end));
    end if;

    select l.product_id, sum(l.quantity) as requested, p.max_per_order
      into wrong
      from unnest(lines) l join products p on p.id = l.product_id
     group by 1, 3
    having sum(l.quantity) > p.max_per_order
     order by 1
     limit 1;
    if found then
        raise exception 'one order may have at most % units of product %',
            wrong.max_per_order, wrong.product_id
            using errcode = 'SS012',
                  detail = jsonb_build_object('productId', wrong.product_id,
                                              'requested', wrong.requested,
                                              'maxPerOrder', wrong.max_per_order);
    end if;
end
$$;
