//! Regions: their names in messages, and the partition that their ARNs are in.
//!
//! Alarm messages carry the display name rather than the code. The older European Regions are "EU (…)" there, which was
//! seen for Ireland, London, Frankfurt and Stockholm and is assumed for Paris and Milan. A code that is not in the table
//! stands for itself.

/// Code and display name, in the order of the codes.
const REGIONS: [(&str, &str); 38] = [
    ("af-south-1", "Africa (Cape Town)"),
    ("ap-east-1", "Asia Pacific (Hong Kong)"),
    ("ap-east-2", "Asia Pacific (Taipei)"),
    ("ap-northeast-1", "Asia Pacific (Tokyo)"),
    ("ap-northeast-2", "Asia Pacific (Seoul)"),
    ("ap-northeast-3", "Asia Pacific (Osaka)"),
    ("ap-south-1", "Asia Pacific (Mumbai)"),
    ("ap-south-2", "Asia Pacific (Hyderabad)"),
    ("ap-southeast-1", "Asia Pacific (Singapore)"),
    ("ap-southeast-2", "Asia Pacific (Sydney)"),
    ("ap-southeast-3", "Asia Pacific (Jakarta)"),
    ("ap-southeast-4", "Asia Pacific (Melbourne)"),
    ("ap-southeast-5", "Asia Pacific (Malaysia)"),
    ("ap-southeast-6", "Asia Pacific (New Zealand)"),
    ("ap-southeast-7", "Asia Pacific (Thailand)"),
    ("ca-central-1", "Canada (Central)"),
    ("ca-west-1", "Canada West (Calgary)"),
    ("cn-north-1", "China (Beijing)"),
    ("cn-northwest-1", "China (Ningxia)"),
    ("eu-central-1", "EU (Frankfurt)"),
    ("eu-central-2", "Europe (Zurich)"),
    ("eu-north-1", "EU (Stockholm)"),
    ("eu-south-1", "EU (Milan)"),
    ("eu-south-2", "Europe (Spain)"),
    ("eu-west-1", "EU (Ireland)"),
    ("eu-west-2", "EU (London)"),
    ("eu-west-3", "EU (Paris)"),
    ("il-central-1", "Israel (Tel Aviv)"),
    ("me-central-1", "Middle East (UAE)"),
    ("me-south-1", "Middle East (Bahrain)"),
    ("mx-central-1", "Mexico (Central)"),
    ("sa-east-1", "South America (Sao Paulo)"),
    ("us-east-1", "US East (N. Virginia)"),
    ("us-east-2", "US East (Ohio)"),
    ("us-gov-east-1", "AWS GovCloud (US-East)"),
    ("us-gov-west-1", "AWS GovCloud (US-West)"),
    ("us-west-1", "US West (N. California)"),
    ("us-west-2", "US West (Oregon)"),
];

/// Prefixes of the Regions outside the partition `aws`, longest first where one starts with another.
const PARTITIONS: [(&str, &str); 6] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("us-iso-", "aws-iso"),
    ("eusc-", "aws-eusc"),
];

pub fn display_name(region: &str) -> &str {
    let known = REGIONS.binary_search_by_key(&region, |(code, _)| *code);
    known.map_or(region, |place| REGIONS[place].1)
}

pub fn partition(region: &str) -> &'static str {
    let found = PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix));
    found.map_or("aws", |(_, partition)| *partition)
}

pub fn alarm_arn(region: &str, account_id: &str, alarm_name: &str) -> String {
    format!("arn:{}:cloudwatch:{region}:{account_id}:alarm:{alarm_name}", partition(region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_each_region_is_found() {
        assert!(REGIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(REGIONS.iter().all(|(code, name)| display_name(code) == *name));
        assert_eq!(display_name("xx-moon-1"), "xx-moon-1");
    }

    #[test]
    fn an_arn_has_the_partition_of_its_region() {
        let arn = |region| alarm_arn(region, "111122223333", "a b");
        assert_eq!(arn("ap-northeast-1"), "arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:a b");
        assert_eq!(arn("cn-north-1"), "arn:aws-cn:cloudwatch:cn-north-1:111122223333:alarm:a b");
        assert_eq!(arn("us-isob-east-1"), "arn:aws-iso-b:cloudwatch:us-isob-east-1:111122223333:alarm:a b");
    }
}
