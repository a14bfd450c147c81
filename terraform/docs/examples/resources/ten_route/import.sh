# By its name.
terraform import ten_route.shop shop
