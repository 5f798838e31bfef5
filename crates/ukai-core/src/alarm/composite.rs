//! STUB, replaced by the real one.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmExpression;
impl AlarmExpression {
    pub fn parse(_text: &str) -> Result<AlarmExpression, String> {
        Ok(AlarmExpression)
    }
}
