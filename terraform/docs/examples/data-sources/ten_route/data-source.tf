data "ten_route" "shop" {
  name = "shop"
}

# How many of 100 requests each fleet gets now.
output "shares" {
  value = { for b in data.ten_route.shop.effective : b.fleet => b.share }
}
