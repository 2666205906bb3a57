-- cart_lines(cart): the lines of a cart, given as JSON `[{"productId": …, "variantId": …, "quantity":
-- …}]`, summed per product and variant, in the order of ids. Two lines for one variant, checked
-- separately, would oversell it.
-- Locks: none.
-- Raises: SS001 unless the cart has 1 to 100 lines of that form with quantities from 1 to 2147483647.
create or replace function cart_lines(cart jsonb) returns stock_line[]
language plpgsql immutable
set search_path from current
as $$
declare
    line   jsonb;
    place  text;
    number integer := 0;
    lines  stock_line[];
begin
    if cart is null or jsonb_typeof(cart) <> 'array'
       or jsonb_array_length(cart) not between 1 and 100 then
        perform refuse_field('lines', 'an array of 1 to 100 lines');
    end if;
    for line in select * from jsonb_array_elements(cart) loop
        place := format('lines[%s]', number);
        if jsonb_typeof(line) <> 'object' then
            perform refuse_field(place, 'an object');
        elsif coalesce(jsonb_typeof(line -> 'productId'), '') <> 'string' then
            perform refuse_field(place || '.productId', 'a string');
        elsif coalesce(jsonb_typeof(line -> 'variantId'), 'null') not in ('string', 'null') then
            perform refuse_field(place || '.variantId', 'a string or null');
        elsif coalesce(jsonb_typeof(line -> 'quantity'), '') <> 'number'
              or (line ->> 'quantity')::numeric not between 1 and 2147483647
              or mod((line ->> 'quantity')::numeric, 1) <> 0 then
            perform refuse_field(place || '.quantity', 'a whole number from 1 to 2147483647');
        end if;
        number := number + 1;
    end loop;
    select array_agg((s.product_id, s.variant_id, s.quantity)::stock_line
                     order by s.product_id, s.variant_id)
      into lines
      from (select l ->> 'productId' as product_id, l ->> 'variantId' as variant_id,
                   least(sum((l ->> 'quantity')::numeric), 2147483647)::integer as quantity
              from jsonb_array_elements(cart) l
             group by 1, 2) s;
    return lines;
end
$$;
