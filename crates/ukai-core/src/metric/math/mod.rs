//! STUB, replaced by the real one.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression;
impl Expression {
    pub fn parse(_text: &str) -> Result<Expression, String> {
        Ok(Expression)
    }
}
