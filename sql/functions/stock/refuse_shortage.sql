-- refuse_shortage(offers): raises an error with the requested and available units of each line.
-- Locks: none.
-- Raises: SS003.
create or replace function refuse_shortage(offers stock_offer[]) returns void
language plpgsql immutable
set search_path from current
as $$
begin
    raise exception 'there is not enough in stock'
        using errcode = 'SS003',
              detail = jsonb_build_object('lines', (
                  select jsonb_agg(jsonb_build_object(
                             'productId', product_id, 'variantId', variant_id,
                             'requested', requested, 'available', available))
                    from unnest(offers)));
end
$$;
